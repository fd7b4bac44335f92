"""Soft conceptual words: the responsibilities of a Gaussian mixture in place of the nearest codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vqbook.objectives import gmvq_loss
from vqbook.quantizers import GaussianMixtureQuantizer, Quantized
from vqbook.topics.code_bags import Assignment
from vqbook.topics.conceptual import ConceptualWords
from vqbook.vqvae import VQVAEOutput


class LearnedPriorQuantizer(GaussianMixtureQuantizer):
    r"""GM-VQ whose prior over codes is learned, $p(c) = \mathrm{softmax}(a)$: words do not use codes evenly.

    Arguments are those of GaussianMixtureQuantizer. Chapter 11.
    """

    def __init__(self, num_codes: int, dim: int, **settings: Any) -> None:
        super().__init__(num_codes, dim, **settings)
        self.prior_logits = nn.Parameter(torch.zeros(num_codes))

    @property
    def log_prior(self) -> Tensor:
        """log p(c), (K,)."""
        return self.prior_logits.log_softmax(-1)

    def _in_blocks(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        return self._dense(z)  # the blockwise computation knows the uniform prior only


class SoftConceptualWords(ConceptualWords):
    r"""GM-VQ on word vectors; a word's conceptual words are its likeliest codes, each by its responsibility.

    $q(c{=}m \mid e) \propto p(m)\,\exp\bigl(-\tfrac12(\hat z-\mu_m)^\top W(\hat z-\mu_m)\bigr)^{1/\tau}$, cut to the k
    largest and scaled to sum 1; a document's bag holds the expected counts $\sum_n q(\cdot \mid e_n)$.

    Trained by gmvq_loss: squared error, γ times the distance, and β times the aggregate's KL. A batch holds words of
    many documents, so the aggregate is the corpus' and not a document's: the term leaves documents free to differ.

    Args:
        num_codes, dim, hidden, near, steps, batch, lr, seed: as in ConceptualWords.
        temperature: τ of the responsibilities in the bag.
        spread: how sharp the responsibilities start, as in GaussianMixtureQuantizer.
        beta: β.
        gamma: γ.
        lam: λ; 1 is ALBO, 0 the ELBO.

    Yan et al., 2024; Yoo and Choi, 2024; chapter 11.
    """

    def __init__(
        self,
        *,
        num_codes: int = 600,
        dim: int = 100,
        hidden: tuple[int, ...] = (),
        near: int = 5,
        temperature: float = 1.0,
        spread: float = 20.0,
        beta: float = 1.0,
        gamma: float = 0.1,
        lam: float = 1.0,
        steps: int = 1_000,
        batch: int = 256,
        lr: float = 5e-4,
        seed: int = 0,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must lie above 0, got {temperature}")
        self.temperature, self.spread, self.beta, self.gamma, self.lam = temperature, spread, beta, gamma, lam
        super().__init__(
            num_codes=num_codes,
            dim=dim,
            hidden=hidden,
            near=near,
            steps=steps,
            batch=batch,
            lr=lr,
            seed=seed,
        )

    def get_params(self) -> dict[str, Any]:
        """The settings, by name."""
        names = "num_codes dim hidden near temperature spread beta gamma lam steps batch lr seed"
        return {name: getattr(self, name) for name in names.split()}

    def make_quantizer(self) -> nn.Module:
        """The layer between encoder and decoder, untrained."""
        if not 1 <= self.near <= self.num_codes:
            raise ValueError(f"near must lie between 1 and the {self.num_codes} codes, got {self.near}")
        return LearnedPriorQuantizer(
            self.num_codes,
            self.dim,
            spread=self.spread,
            steps=self.steps,
            terms=("distance", "aggregate_kl", "code_kl"),
            generator=torch.Generator().manual_seed(self.seed),
        )

    def loss(self, e: Tensor) -> tuple[Tensor, dict[str, Tensor], Quantized]:
        """One batch of standardised word vectors (B, E) -> total, named terms, what the quantizer returned."""
        z = normalize(self.encoder(e), dim=-1)
        quantized = self.quantizer(z)
        out = VQVAEOutput(self.decoder(quantized.z_q), z, quantized)
        total = gmvq_loss(e, out, beta=self.beta, gamma=self.gamma, lam=self.lam)
        return total, {"total": total, **quantized.terms}, quantized

    @torch.no_grad()
    def responsibilities(self, table: np.ndarray) -> Tensor:
        """q(c | e) at the temperature of the bag, (R, E) -> (R, M)."""
        return (self.quantizer.logits(self.encode(table)) / self.temperature).softmax(-1)

    def assign(self, table: np.ndarray) -> Assignment:
        """The likeliest codes of each row of a table of word vectors (R, E), and their shares."""
        parts = [
            self.responsibilities(table[i : i + 16_384]).topk(self.near) for i in range(0, len(table), 16_384)
        ]
        codes = torch.cat([part.indices for part in parts])
        q = torch.cat([part.values for part in parts])
        return Assignment(codes.int().numpy(), (q / q.sum(-1, keepdim=True)).numpy())

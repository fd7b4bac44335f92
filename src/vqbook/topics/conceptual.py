"""Conceptual words: the codes of a VQ-VAE on word vectors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize
from tqdm import tqdm

from vqbook.quantizers import Quantized, Revival, top_k_codes
from vqbook.topics.code_bags import Assignment, bag_of_codes, row_counts, used_rows, vectors_of
from vqbook.topics.expanded import Combine, ExpandedQuantizer

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus

__all__ = ["ConceptualWords", "row_counts", "vectors_of"]
CHUNK = 16_384  # rows of a table that are encoded together


class ConceptualWords(nn.Module):
    r"""A VQ-VAE on word vectors; the k codes nearest to a word are its conceptual words.

    $\hat z = f(e) / \lVert f(e) \rVert, \qquad c_m = 1[m \in \mathcal N_k(\hat z)], \qquad z_q = \sum_m c_m \rho_m$

    $L = \lVert e - g(\hat z + \mathrm{sg}[z_q - \hat z]) \rVert^2 + \lVert \mathrm{sg}[\hat z] - z_q \rVert^2
    + \beta \lVert \hat z - \mathrm{sg}[z_q] \rVert^2$, means over entries.

    Word vectors are centred and scaled to unit variance (one number for all dimensions) before f, so that the three
    terms have comparable sizes whatever the embedding.

    Args:
        num_codes: M.
        dim: D, length of a code.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse. Without any, both are linear and
            start at the principal axes, so that distances between words are at first those of their vectors.
        near: k.
        combine: whether z_q is the "sum" of the k codes or their "mean".
        weighting: "ones", or "inverse": squared inverse distances, scaled to a Euclidean length of one for each word.
        start: first codes by "kmeans" on encoded words, or "uniform" in (-1, 1).
        revive_after: batches without use after which a code is put elsewhere; None never.
        commit_weight: β.
        steps: training steps.
        batch: words a step.
        lr: learning rate of AdamW.
        seed: of everything random.

    Yoo and Choi, 2024; chapter 11.
    """

    encoder: nn.Sequential
    decoder: nn.Sequential
    quantizer: Any
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        num_codes: int = 600,
        dim: int = 100,
        hidden: tuple[int, ...] = (),
        near: int = 5,
        combine: Combine = "sum",
        weighting: Literal["ones", "inverse"] = "ones",
        start: Literal["kmeans", "uniform"] = "kmeans",
        revive_after: int | None = 20,
        commit_weight: float = 0.25,
        steps: int = 1_000,
        batch: int = 256,
        lr: float = 5e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if weighting not in ("ones", "inverse") or start not in ("kmeans", "uniform"):
            raise ValueError(
                f'weighting is "ones" or "inverse" and start "kmeans" or "uniform", got {weighting!r}, {start!r}'
            )
        self.num_codes, self.dim, self.hidden, self.near = num_codes, dim, tuple(hidden), near
        self.combine, self.weighting, self.start, self.revive_after = combine, weighting, start, revive_after
        self.commit_weight, self.steps, self.batch, self.lr, self.seed = commit_weight, steps, batch, lr, seed
        self.input_dim: int | None = None
        self._bags: WeakKeyDictionary[Corpus, csr_matrix] = WeakKeyDictionary()
        self.make_quantizer()  # settings that cannot be are refused here, not after the embedding is made

    def get_params(self) -> dict[str, Any]:
        """The settings, by name."""
        names = (
            "num_codes dim hidden near combine weighting start revive_after commit_weight steps batch lr seed"
        )
        return {name: getattr(self, name) for name in names.split()}

    @property
    def fitted(self) -> bool:
        """Whether `fit` has been called, or the weights were loaded."""
        return self.input_dim is not None

    def make_quantizer(self) -> nn.Module:
        """The layer between encoder and decoder, untrained."""
        generator = torch.Generator().manual_seed(self.seed)
        layer = ExpandedQuantizer(
            self.num_codes, self.dim, self.near, combine=self.combine, generator=generator
        )
        return (
            layer if self.revive_after is None else Revival(layer, timeout=self.revive_after, seed=self.seed)
        )

    def build(self, input_dim: int) -> Self:
        """Make the networks for word vectors of this length, untrained."""
        widths = (input_dim, *self.hidden, self.dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder, self.decoder = _mlp(widths), _mlp(widths[::-1])
        self.quantizer = self.make_quantizer()
        self.register_buffer("centre", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(()))
        self.input_dim = input_dim
        return self

    @property
    def codebook(self) -> Tensor:
        """ρ, (M, D)."""
        return self._fitted().quantizer.codebook.detach()

    def loss(self, e: Tensor) -> tuple[Tensor, dict[str, Tensor], Quantized]:
        """One batch of standardised word vectors (B, E) -> total, named terms, what the quantizer returned."""
        out = self.quantizer(self.encoder(e))
        terms = {"reconstruction": mse_loss(self.decoder(out.z_q), e), **out.terms}
        total = terms["reconstruction"] + terms["codebook"] + self.commit_weight * terms["commitment"]
        return total, terms, out

    def fit(self, table: np.ndarray, weights: np.ndarray | None = None, *, progress: bool = False) -> Self:
        """Train on rows of a table of word vectors, drawn in proportion to their weights.

        Args:
            table: (R, E), any float type, may be a memory map; only the rows of a batch are read.
            weights: (R,), how often each row occurs; all alike by default.
            progress: show a bar on stderr.
        Returns:
            self. `history` holds the terms by name, one value in twenty steps; `usage` (M,) counts choices in the
            last fifth of the training.
        Raises:
            ValueError: a table that is not (R, E), or weights that do not fit it.
        """
        cumulative = _cumulative(table, weights)
        rng = np.random.default_rng(self.seed)

        def draw(n: int) -> Tensor:
            rows = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
            return torch.from_numpy(np.asarray(table[np.sort(rows)], np.float32))

        self.build(table.shape[1]).train()
        self._bags.clear()
        sample = draw(CHUNK)
        self.centre.copy_(sample.mean(0))
        self.scale.copy_((sample - self.centre).square().mean().sqrt().clamp_min(1e-12))
        if not self.hidden:
            self._start_at_principal_axes(self._standardise(sample))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.start == "kmeans":
                first = normalize(self.encoder(self._standardise(draw(64 * self.num_codes))).detach(), dim=-1)
                self.quantizer.initialise(first, torch.Generator().manual_seed(self.seed))
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
            self.history: dict[str, list[float]] = {}
            self.usage = torch.zeros(self.num_codes, dtype=torch.int64)
            for step in tqdm(range(self.steps), "conceptual words", disable=not progress, leave=False):
                total, terms, out = self.loss(self._standardise(draw(self.batch)))
                optimizer.zero_grad(set_to_none=True)
                total.backward()
                optimizer.step()
                if step % 20 == 0:
                    for name, value in terms.items():
                        self.history.setdefault(name, []).append(value.item())
                if step >= 0.8 * self.steps:
                    self.usage += out.usage
        return self.eval()

    @torch.no_grad()
    def encode(self, table: np.ndarray) -> Tensor:
        """Word vectors (R, E) -> points on the unit sphere, (R, D) float32."""
        return torch.cat([normalize(self.encoder(part), dim=-1) for part in self._parts(table)])

    @torch.no_grad()
    def nearest(self, table: np.ndarray, near: int | None = None) -> np.ndarray:
        """The codes nearest to each row of a table of word vectors (R, E): (R, near) int32, nearest first."""
        return top_k_codes(self.encode(table), self.codebook, near or self.near).int().numpy()

    def assign(self, table: np.ndarray) -> Assignment:
        """The conceptual words of each row of a table of word vectors (R, E), and what each counts."""
        codes = self.nearest(table)
        if self.weighting == "ones":
            return Assignment(codes, None)
        z = self.encode(table)
        distance = (z.unsqueeze(1) - self.codebook[torch.from_numpy(codes).long()]).square().sum(-1)
        return Assignment(codes, normalize(1 / distance.clamp_min(1e-12), dim=-1).numpy())

    def bag(self, corpus: Corpus) -> csr_matrix:
        """How often each conceptual word occurs in each document of a corpus with vectors, (N, M) float32.

        Remembered as long as the corpus lives; do not change it in place.
        """
        if corpus not in self._bags:
            table, rows, used = used_rows(corpus)
            found = [self.assign(table[part]) for part in used]
            codes = np.concatenate([x.codes for x in found])
            weights = [x.weights for x in found if x.weights is not None]
            self._bags[corpus] = bag_of_codes(
                rows, corpus.starts, codes, self.num_codes, np.concatenate(weights) if weights else None
            )
        return self._bags[corpus]

    def neighbours(self, corpus: Corpus, n: int = 5) -> list[list[str]]:
        """Names for the conceptual words: for each code the n words of a corpus that lie nearest to it.

        A word lies at the mean of its tokens on the sphere; near means a large cosine.
        """
        vectors = self.word_vectors(corpus)
        occurs = vectors.any(-1).nonzero().squeeze(-1)
        best = (normalize(self.codebook, dim=-1) @ vectors[occurs].T).topk(min(n, len(occurs))).indices
        return [[corpus.words[w] for w in row] for row in occurs[best].tolist()]

    def word_vectors(self, corpus: Corpus) -> Tensor:
        """Where each word of a corpus lies: the mean of its tokens on the sphere, scaled to length 1, (V, D).

        Zeros for words without a vector.
        """
        table, rows, used = used_rows(corpus)
        known = rows >= 0
        ends = np.cumsum([0, *(len(part) for part in used)])
        ones = np.ones(known.sum(), np.float32)
        uses = csc_matrix(
            (ones, (corpus.tokens[known], rows[known])), shape=(len(corpus.words), int(ends[-1]))
        )
        sums = torch.zeros(len(corpus.words), self.dim)
        for part, (a, b) in zip(used, pairwise(ends.tolist()), strict=True):
            sums += torch.from_numpy(uses[:, a:b] @ self.encode(table[part]).numpy())
        return normalize(sums, dim=-1)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_bags"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._bags = WeakKeyDictionary()

    @torch.no_grad()
    def _start_at_principal_axes(self, e: Tensor) -> None:
        """Encoder and decoder without hidden layers: a rotation, or a projection that loses least, and the way back."""
        first, last = self.encoder[0], self.decoder[0]
        axes = torch.linalg.eigh(e.T @ e).eigenvectors.flip(1)[:, : self.dim].T  # (D, E) or fewer rows
        for layer, value in ((first, axes), (last, axes.T)):
            assert isinstance(layer, nn.Linear)
            layer.weight.zero_()[: value.shape[0], : value.shape[1]] = value
            layer.bias.zero_()

    def _standardise(self, e: Tensor) -> Tensor:
        return (e - self.centre) / self.scale

    def _parts(self, table: np.ndarray) -> Iterator[Tensor]:
        self._fitted()
        if table.ndim != 2 or table.shape[1] != self.input_dim:
            raise ValueError(f"expected word vectors (R, {self.input_dim}), got {table.shape}")
        for first in range(0, len(table), CHUNK):
            yield self._standardise(torch.from_numpy(np.asarray(table[first : first + CHUNK], np.float32)))

    def _fitted(self) -> Self:
        if not self.fitted:
            raise ValueError(f"{type(self).__name__} has no codes yet: call fit first")
        return self


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _cumulative(table: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if table.ndim != 2:
        raise ValueError(f"expected a table of word vectors (R, E), got shape {table.shape}")
    weights = np.ones(len(table)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != (len(table),) or not ((weights >= 0).all() and weights.sum() > 0):
        raise ValueError(
            f"expected a weight of at least 0 for each of {len(table)} rows and one above 0, got {weights.shape}"
        )
    return weights.cumsum()

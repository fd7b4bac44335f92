"""A quantizer whose codes are the means of a Gaussian mixture: GM-VQ."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vqbook.objectives import GMVQ_TERMS, categorical_kl, latent_kl
from vqbook.quantizers.base import Codebook, Quantized, check_size
from vqbook.quantizers.distributed import all_mean, from_first
from vqbook.quantizers.gumbel import exponential_schedule, gumbel_softmax
from vqbook.quantizers.kmeans import kmeans_start
from vqbook.quantizers.soft_lookup import soft_lookup

Mixing = Literal["variance", "deviation"]
EPS = 1e-12  # under the square root of a variance: its slope at zero stays finite


class GaussianMixtureQuantizer(Codebook):
    r"""Draw a code by its distance, and decode it with noise of the size of that distance.

    $q(c{=}k \mid x) \propto \exp\bigl(-\tfrac12 (z_e-\mu_k)^\top W (z_e-\mu_k)\bigr), \qquad
    q(z \mid x, k) = \mathcal N\bigl(z; \mu_k, \sigma_k^2 I\bigr), \quad
    \sigma_k^2 = \frac{\lVert z_e - \mu_k \rVert^2}{2 \sigma^2 D}$

    In training $z_q = \sum_k y_k \mu_k + s(y)\,\varepsilon$ with a Gumbel-Softmax draw y and standard normal ε, where
    $s(y)^2 = \sum_k y_k \sigma_k^2$ (mixing "variance") or $s(y) = \sum_k y_k \sigma_k$ ("deviation"). In evaluation
    z_q is the mean of the likeliest code, without noise. The gradient of everything reaches encoder output, means and
    feature weights; nothing is stopped, averaged or committed. The prior over codes is uniform. The temperature
    follows exponential_schedule, one step for each training forward. Noise comes from the global generator.

    Args:
        num_codes: K.
        dim: D.
        sigma: σ of the noise rule; $2\sigma^2 = 1$ gives the noise the energy of the quantisation error, inf none.
        spread: W at the start is a multiple of the identity such that encoder outputs lie at this mean squared distance
            from their centre: the larger, the sharper q. `initialise` measures it; without that it holds for outputs
            distributed like the initial codes.
        sigma_z: scale of $p(z \mid k)$, for the term "latent_kl".
        mixing: how the codes' noise is mixed.
        start: τ at the first step.
        end: τ in the end.
        steps: over how many steps it falls.
        ema: decay of a running average of the aggregate posterior from which "aggregate_kl" takes its prices, or None
            for the plain one, of the batch alone.
        terms: which terms forward computes.
        generator: source of the initial codes, standard normal.
    Raises:
        ValueError: settings out of range.

    Yan et al., 2024; chapters 6 and 8.
    """

    scale: Tensor
    step: Tensor
    aggregate: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        sigma: float = math.sqrt(0.5),
        spread: float = 5.0,
        sigma_z: float = 1.0,
        mixing: Mixing = "variance",
        start: float = 1.0,
        end: float = 0.1,
        steps: int = 10_000,
        ema: float | None = None,
        terms: Collection[str] = ("distance", "aggregate_kl"),
        generator: torch.Generator | None = None,
    ) -> None:
        check_size(num_codes, dim)
        if not (sigma > 0 and spread > 0 and 0 < sigma_z < math.inf):
            raise ValueError(f"sigma, spread and sigma_z must lie above 0, got {sigma}, {spread}, {sigma_z}")
        if mixing not in ("variance", "deviation"):
            raise ValueError(f'mixing must be "variance" or "deviation", got {mixing!r}')
        if ema is not None and not 0 <= ema < 1:
            raise ValueError(f"ema must be None or a decay in [0, 1), got {ema}")
        if not set(terms) <= set(GMVQ_TERMS):
            raise ValueError(f"terms are {', '.join(GMVQ_TERMS)}, got {sorted(set(terms) - set(GMVQ_TERMS))}")
        exponential_schedule(0.0, start, end, steps)  # raises for a schedule that cannot be
        super().__init__(torch.randn(num_codes, dim, generator=generator))
        self.raw_weights = nn.Parameter(torch.full((dim,), math.log(math.expm1(1))))
        self.register_buffer("scale", torch.tensor(spread / dim))
        self.spread = spread
        self.sigma, self.sigma_z, self.mixing, self.ema = sigma, sigma_z, mixing, ema
        self.start, self.end, self.steps, self.terms = start, end, steps, tuple(terms)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("aggregate", torch.full((num_codes,), 1 / num_codes))

    @property
    def weights(self) -> Tensor:
        """w, the diagonal of W, above zero, (D,): a fixed scale times a learned factor for each feature."""
        return self.scale * softplus(self.raw_weights)

    @property
    def log_prior(self) -> Tensor:
        """log p(c), (K,): uniform."""
        return self.codebook.new_full((self.num_codes,), -math.log(self.num_codes))

    @property
    def temperature(self) -> Tensor:
        """τ of the next training step, a scalar."""
        return exponential_schedule(self.step, self.start, self.end, self.steps)

    def logits(self, z_e: Tensor) -> Tensor:
        r"""$-\frac12 (z_e-\mu_k)^\top W (z_e-\mu_k) + \log p(k)$, (..., D) -> (..., K), float32."""
        with torch.autocast(z_e.device.type, enabled=False):
            root = self.weights.sqrt()
            return self.log_prior - 0.5 * squared_distances(self.check(z_e) * root, self.codebook * root)

    def posterior(self, z_e: Tensor) -> Tensor:
        r"""$\log q(c{=}k \mid x)$, (..., D) -> (..., K), float32."""
        return self.logits(z_e).log_softmax(-1)

    def variances(self, z_e: Tensor) -> Tensor:
        r"""$\sigma_k^2(x)$ of every code, (..., D) -> (..., K)."""
        with torch.autocast(z_e.device.type, enabled=False):
            return squared_distances(self.check(z_e), self.codebook) / (2 * self.sigma**2 * self.dim)

    def forward(self, z_e: Tensor) -> Quantized:
        r"""Quantise a batch of vectors.

        The terms, in nats and unweighted, are means over positions; those that were asked for at construction:
        distance: $\mathbb E_q[(z_e-\mu_c)^\top W (z_e-\mu_c)]$;
        latent_kl: $\mathbb E_q\,\mathrm{KL}(q(z \mid x,c) \Vert p(z \mid c))$;
        aggregate_kl: $\mathrm{KL}(\hat q_B(c) \Vert p(c))$, $\hat q_B$ the mean of q over the positions of all ranks;
        code_kl: $\mathrm{KL}(q(c \mid x) \Vert p(c))$.

        Args:
            z_e: encoder output, channels last, (..., D). Half precision is computed in float32.
        Returns:
            Quantized, z_q (..., D); the codes are the likeliest.
        Raises:
            ValueError: wrong last dimension, or nothing to quantise.
        """
        with torch.autocast(z_e.device.type, enabled=False):
            z = self.check(z_e).reshape(-1, self.dim)
            dense = not self.training or self.mixing == "deviation" or "latent_kl" in self.terms
            z_q, codes, q_sum, rows = self._dense(z) if dense else self._in_blocks(z)
            if self.training:
                self.step = self.step + 1  # not in place: a compiled backward may read the old one again
            terms = {name: value.mean() for name, value in rows.items() if name in self.terms}
            if "aggregate_kl" in self.terms:
                terms["aggregate_kl"] = self._aggregate_kl(all_mean(q_sum, len(z)))
            codes = codes.reshape(z_e.shape[:-1])
            return Quantized(z_q.reshape(z_e.shape), codes, terms, self.count(codes))

    def _dense(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """By the definitions, with arrays of N x K: z_q (N, D), codes (N,), sum of q (K,) and terms of each row."""
        logits = self.logits(z)
        log_q = logits.log_softmax(-1)  # (N, K)
        q, codes = log_q.exp(), log_q.argmax(-1)
        rows = {
            "distance": -2 * (q * (logits - self.log_prior)).sum(-1),
            "code_kl": (q * (log_q - self.log_prior)).sum(-1),
        }
        if "latent_kl" in self.terms:
            rows["latent_kl"] = (q * latent_kl(self.variances(z), self.sigma_z, self.dim)).sum(-1)
        if not self.training:
            return self.lookup(codes), codes, q.sum(0), rows
        y, variances = gumbel_softmax(log_q, self.temperature), self.variances(z)
        shared = self.mixing == "variance"
        deviation = root((y * variances).sum(-1)) if shared else (y * root(variances)).sum(-1)
        return self._noisy(y @ self.codebook, deviation), codes, q.sum(0), rows

    def _in_blocks(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """The same in training, but for latent_kl, with one array of N x K: chapter 8."""
        centre = self.codebook.detach().mean(0)  # no distance changes, and small numbers are rounded less
        z, means, w = z - centre, self.codebook - centre, self.weights
        values = torch.cat([self.codebook, means.square().sum(-1, keepdim=True)], 1)
        found = soft_lookup(z * w, means, -0.5 * means.square() @ w, values, self.temperature)
        mean = found.read[:, :-1]
        squares = z.square().sum(-1) - 2 * (z * (mean - centre)).sum(-1) + found.read[:, -1]  # mixed by y
        rows = {
            "distance": z.square() @ w - 2 * found.score,
            "code_kl": found.score - found.log_total + math.log(self.num_codes),
        }
        deviation = root(squares.clamp_min(0) / (2 * self.sigma**2 * self.dim))
        return self._noisy(mean, deviation), found.codes, found.usage, rows

    @staticmethod
    def _noisy(mean: Tensor, deviation: Tensor) -> Tensor:
        return mean + deviation.unsqueeze(-1) * torch.randn_like(mean)

    def _aggregate_kl(self, batch: Tensor) -> Tensor:
        """Of the batch, (K,); with `ema`, of the running average, whose prices the present rows pay."""
        if self.ema is None:
            return categorical_kl(batch, self.log_prior)
        if self.training:
            self.aggregate = (self.ema * self.aggregate + (1 - self.ema) * batch).detach()
        prices = self.aggregate.clamp_min(torch.finfo(batch.dtype).tiny).log() - self.log_prior
        paid = (batch * prices).sum()
        return categorical_kl(self.aggregate, self.log_prior) + paid - paid.detach()

    @torch.no_grad()
    def initialise(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Start where the data is: the means by kmeans_start, W by `spread`.

        On several processes all must call.

        Args:
            z: encoder outputs, (..., D), at least K vectors that are not all equal.
            generator: source of the k-means, on the CPU.
        Raises:
            ValueError: fewer vectors than codes, another last dimension, or no spread.
        """
        flat = self.check(z.detach()).reshape(-1, self.dim)
        centre = all_mean(flat.sum(0), len(flat))
        variance = all_mean((flat - centre).square().sum(), len(flat))
        if not variance > 0:
            raise ValueError("all encoder outputs are equal: their spread has no scale")
        self.codebook.copy_(kmeans_start(flat, self.num_codes, generator))
        self.scale = self.spread / from_first(variance)


def squared_distances(z: Tensor, codes: Tensor) -> Tensor:
    r"""$\lVert z - \mu_k \rVert^2$ by one matrix product, (..., D), (K, D) -> (..., K)."""
    centre = codes.detach().mean(0)
    z, codes = z - centre, codes - centre
    return (z.square().sum(-1, keepdim=True) - 2 * z @ codes.T + codes.square().sum(-1)).clamp_min(0)


def root(variance: Tensor) -> Tensor:
    """The square root, zero at zero, with a finite slope there."""
    return variance / (variance + EPS).sqrt()

"""A quantizer that draws its codes, the sharper the better they fit: SQ-VAE with Gaussians."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vqbook.quantizers.base import Codebook, Quantized, check_size
from vqbook.quantizers.gumbel import exponential_schedule, gumbel_softmax

Variant = Literal["I", "II", "III", "IV"]


class SQVAEQuantizer(Codebook):
    r"""Draw codes in proportion to how well they explain a noisy encoder output.

    $q(k \mid z) \propto \exp\Big(-\sum_d \frac{(z_d - e_{kd})^2}{2\sigma_d^2}\Big), \qquad
    z_q = \sum_k y_k e_k$ with $y = \mathrm{gumbel\_softmax}(\log q, \tau_t)$

    The variance is learned: $\sigma^2 = e^{v} + e^{\lambda}$, one scalar parameter λ and, but for the first variant,
    log variances v that the encoder gives beside z:

    I: v = 0. II: v is the mean over an image, one for all its positions. III: one for each position, the mean over
    its channels. IV: one for each position and dimension.

    Evaluation takes the likeliest code. The task and both terms give gradient to encoder, codebook and λ. The
    temperature follows exponential_schedule, one step for each training forward; by default it falls like
    $e^{-10^{-5} t}$, as the authors' does.

    Args:
        num_codes: K.
        dim: D.
        variant: "I", "II", "III" or "IV". The encoder gives D channels for "I", else 2 D: z, then v.
        log_variance: λ at the start.
        start: τ at the first step.
        end: τ in the end.
        steps: over how many steps it falls.
        generator: source of the initial codes, standard normal.
    Raises:
        ValueError: an unknown variant, or sizes and a schedule that cannot be.

    Takida et al., 2022; chapter 5.
    """

    step: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        variant: Variant = "I",
        log_variance: float = math.log(20),
        start: float = 1.0,
        end: float = math.exp(-1.6),
        steps: int = 160_000,
        generator: torch.Generator | None = None,
    ) -> None:
        check_size(num_codes, dim)
        if variant not in ("I", "II", "III", "IV"):
            raise ValueError(f'variant must be "I", "II", "III" or "IV", got {variant!r}')
        super().__init__(torch.randn(num_codes, dim, generator=generator))
        exponential_schedule(0.0, start, end, steps)  # raises for a schedule that cannot be
        self.variant, self.start, self.end, self.steps = variant, start, end, steps
        self.log_variance = nn.Parameter(torch.tensor(log_variance))  # λ
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def input_dim(self) -> int:
        """D for variant I, 2 D for the others."""
        return self.dim if self.variant == "I" else 2 * self.dim

    @property
    def temperature(self) -> Tensor:
        """τ of the next training step, a scalar."""
        return exponential_schedule(self.step, self.start, self.end, self.steps)

    def split(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output -> (z (..., D), variance: scalar for I, (B, 1, ..., 1), (..., 1) or (..., D))."""
        if self.variant == "I":
            return z_e, 1 + self.log_variance.exp()
        z, v = z_e.chunk(2, -1)
        if self.variant == "II":
            v = v.mean(tuple(range(1, v.ndim)), keepdim=True)
        elif self.variant == "III":
            v = v.mean(-1, keepdim=True)
        return z, v.exp() + self.log_variance.exp()

    def forward(self, z_e: Tensor) -> Quantized:
        r"""Quantise a batch of images' vectors.

        Both terms are sums over the positions of an image, averaged over the images, the first axis of z_e; in nats and
        unweighted:
        negative_entropy: $\sum_k q_k \log q_k$, distance: $\sum_d (z_d - z_{q,d})^2 / 2\sigma_d^2$.

        Args:
            z_e: encoder output, channels last, (B, ..., input_dim). Half precision is computed in float32.
        Returns:
            Quantized, z_q (B, ..., D); the codes are the draws in training, the likeliest in evaluation.
        Raises:
            ValueError: wrong last dimension, or nothing to quantise.
        """
        with torch.autocast(z_e.device.type, enabled=False):
            z, variance = self.split(self.check(z_e))
            precision = 0.5 / variance
            logits = code_logits(z, self.codebook, precision)  # (..., K)
            if self.training:
                y = gumbel_softmax(logits, self.temperature)
                codes, z_q = y.argmax(-1), y @ self.codebook
                self.step = self.step + 1  # not in place: a compiled backward may read the old one again
            else:
                codes = logits.argmax(-1)
                z_q = self.lookup(codes)
            log_q = logits.log_softmax(-1)
            terms = {
                "negative_entropy": (log_q.exp() * log_q).sum() / len(z),
                "distance": ((z - z_q).square() * precision).sum() / len(z),
            }
            return Quantized(z_q, codes, terms, self.count(codes))


def code_logits(z: Tensor, codebook: Tensor, precision: Tensor) -> Tensor:
    r"""$-\sum_d w_d (z_d - e_{kd})^2$ up to a constant of each vector, which no softmax feels.

    Args:
        z: (..., D).
        codebook: (K, D).
        precision: w, half the inverse variance, broadcast against z.
    Returns:
        (..., K): $2 (w \odot z) \cdot e_k - w \cdot e_k^2$, two matrix products.

    Chapter 5.
    """
    w = precision.expand_as(z)
    return 2 * (w * z) @ codebook.T - w @ codebook.square().T

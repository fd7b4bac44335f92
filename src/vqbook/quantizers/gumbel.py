"""A differentiable draw from a categorical distribution, and the quantizer made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from vqbook.quantizers.base import Codebook, Quantized, check_size
from vqbook.quantizers.ops import straight_through

Number = TypeVar("Number", float, Tensor)


def gumbel_noise(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Standard Gumbel noise, $g = -\log E$ with $E \sim \mathrm{Exponential}(1)$.

    An exponential keeps its precision near zero, where the large values of g come from; $-\log(-\log u)$ does not.

    Args:
        shape: of the result.
        generator: source of the noise, on the device of `like`.
        like: a tensor whose device and precision the noise takes; half precision and no tensor give float32.
    Returns:
        Finite noise of mean 0.5772... and variance π²/6.

    Chapter 5.
    """
    dtype = torch.float32 if like is None else torch.promote_types(like.dtype, torch.float32)
    device = None if like is None else like.device
    exponential = torch.empty(tuple(shape), device=device, dtype=dtype).exponential_(generator=generator)
    return exponential.clamp_min_(torch.finfo(dtype).tiny).log_().neg_()


def gumbel_softmax(
    logits: Tensor,
    temperature: float | Tensor,
    *,
    hard: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""A point of the simplex near a draw from a categorical distribution, with a gradient to its logits.

    $y = \mathrm{softmax}\big((\log q + g)/\tau\big)$ with Gumbel noise g and $q = \mathrm{softmax}(\ell)$. The largest
    entry of y is a draw from q whatever τ; τ → 0 makes y that draw.

    Args:
        logits: ℓ, (..., K), not necessarily normalised. Half precision is computed in float32.
        temperature: τ, above 0.
        hard: give the one-hot draw itself, with the gradient of y (straight-through Gumbel-Softmax).
        generator: source of the noise, on the device of the logits.
    Returns:
        y, (..., K), float32 (float64 for such logits); rows sum to one.
    Raises:
        ValueError: a temperature that is not above 0, or no logits.

    Jang et al., 2017; Maddison et al., 2017; chapter 5.
    """
    if isinstance(temperature, (int, float)) and not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
    if logits.ndim < 1 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be (..., K) with K >= 1, got {tuple(logits.shape)}")
    with torch.autocast(logits.device.type, enabled=False):
        log_q = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        noise = gumbel_noise(log_q.shape, generator=generator, like=log_q)
        y = ((log_q + noise) / temperature).softmax(-1)
        if not hard:
            return y
        draw = torch.zeros_like(y).scatter_(-1, y.argmax(-1, keepdim=True), 1)
        return straight_through(y, draw)


def exponential_schedule(step: Number, start: float, end: float, steps: int) -> Number:
    r"""A value that shrinks by one factor a step, then stays: $\tau_t = \tau_0 (\tau_1/\tau_0)^{\min(t/T,\,1)}$.

    Args:
        step: t, from 0; a number or a scalar tensor.
        start: τ at step 0, above 0.
        end: τ from step T on, above 0.
        steps: T.
    Returns:
        τ_t, of the kind of `step`.
    Raises:
        ValueError: start or end not above 0, or fewer than one step.

    Chapter 5.
    """
    if not start > 0 or not end > 0 or steps < 1:
        raise ValueError(
            f"start and end must lie above 0 and steps be at least 1, got {start}, {end}, {steps}"
        )
    done = step / steps
    if isinstance(done, Tensor):
        return start * (end / start) ** done.clamp(0, 1)
    return start * (end / start) ** min(max(done, 0.0), 1.0)


class GumbelQuantizer(Codebook):
    r"""Choose codes by logits that the encoder gives, not by distance, and mix them while training.

    $z_q = \sum_k y_k e_k$ with $y = \mathrm{gumbel\_softmax}(\ell, \tau_t)$; in evaluation the likeliest code.
    The gradient of the task reaches both the logits and all codes, through the mixture. The temperature follows
    exponential_schedule, one step for each training forward.

    Args:
        num_codes: K, also the number of channels that the encoder gives.
        dim: D.
        start: τ at the first step.
        end: τ in the end.
        steps: over how many steps it falls.
        hard: decode the draw itself, with the gradient of the mixture.
        generator: source of the initial codes, standard normal.

    After the discrete VAE of Ramesh et al., 2021; chapter 5.
    """

    step: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        start: float = 1.0,
        end: float = 1 / 16,
        steps: int = 10_000,
        hard: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        check_size(num_codes, dim)
        super().__init__(torch.randn(num_codes, dim, generator=generator))
        exponential_schedule(0.0, start, end, steps)  # raises for a schedule that cannot be
        self.start, self.end, self.steps, self.hard = start, end, steps, hard
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def input_dim(self) -> int:
        """K: the encoder gives a logit for each code."""
        return self.num_codes

    @property
    def temperature(self) -> Tensor:
        """τ of the next training step, a scalar."""
        return exponential_schedule(self.step, self.start, self.end, self.steps)

    def forward(self, z_e: Tensor) -> Quantized:
        r"""Quantise a batch of logits.

        kl: $\mathrm{KL}(q \Vert \mathrm{uniform}) = \log K - H(q)$ in nats, averaged over positions, unweighted.

        Args:
            z_e: logits, (..., K), at least one position. Half precision is computed in float32.
        Returns:
            Quantized, z_q (..., D); the codes are the draws in training, the likeliest in evaluation; term "kl"
            (gradient to z_e only).
        Raises:
            ValueError: wrong last dimension, or nothing to quantise.
        """
        with torch.autocast(z_e.device.type, enabled=False):
            logits = self.check(z_e)
            log_q = logits.log_softmax(-1)  # (..., K)
            terms = {"kl": math.log(self.num_codes) + (log_q.exp() * log_q).sum(-1).mean()}
            if self.training:
                y = gumbel_softmax(logits, self.temperature, hard=self.hard)
                codes, z_q = y.argmax(-1), y @ self.codebook
                self.step = self.step + 1  # not in place: a compiled backward may read the old one again
            else:
                codes = logits.argmax(-1)
                z_q = self.lookup(codes)
            return Quantized(z_q, codes, terms, self.count(codes))

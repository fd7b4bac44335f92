"""Estimators of the gradient of an expected loss through a categorical choice, all with one face.

The loss to be differentiated is $F(\\ell) = \\sum_k q_k f(1_k)$ with $q = \\mathrm{softmax}(\\ell)$, where $f$ is given
on points of the simplex and $1_k$ is the corner that stands for code k. Each estimator is a function of
(f, logits, generator, samples) and returns that many independent gradient estimates, so that bias and variance
can be measured against `exact_gradient`. Chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vqbook.quantizers.gumbel import gumbel_noise

Loss = Callable[[Tensor], Tensor]  # points of the simplex (..., K) -> losses (...)


def exact_gradient(f: Loss, logits: Tensor) -> Tensor:
    r"""Gradient of the expected loss by enumeration: one call of f for each code.

    $\partial F / \partial \ell_k = q_k \, (f(1_k) - F)$

    Args:
        f: the loss on points of the simplex, (..., K) -> (...).
        logits: unnormalised log-probabilities, (..., K).
    Returns:
        The gradient, (..., K); its entries sum to zero.

    Chapter 5.
    """
    q = _logits(logits).detach().softmax(-1)
    corners = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
    corners = corners.reshape(q.shape[-1], *[1] * (q.ndim - 1), q.shape[-1]).expand(-1, *q.shape)
    values = f(corners).detach().movedim(0, -1)  # (..., K)
    return q * (values - (q * values).sum(-1, keepdim=True))


def score_function(
    f: Loss, logits: Tensor, generator: torch.Generator, samples: int, *, baseline: float | Tensor = 0.0
) -> Tensor:
    r"""Williams' estimator: the loss of a sampled code times the gradient of its log-probability.

    $\hat g = (f(1_c) - b)\,(1_c - q), \quad c \sim q$. Unbiased for every constant b.

    Args:
        f: the loss on points of the simplex, (..., K) -> (...); it need not be differentiable.
        logits: (..., K).
        generator: source of randomness.
        samples: S, how many estimates; each calls f once.
        baseline: b, a number or a tensor (...) that does not depend on the sample.
    Returns:
        Gradient estimates, (S, ..., K).

    Williams, 1992; chapter 5.
    """
    corner = _draw(logits, generator, samples)
    return (f(corner).detach() - baseline).unsqueeze(-1) * (corner - logits.detach().softmax(-1))


def leave_one_out(
    f: Loss, logits: Tensor, generator: torch.Generator, samples: int, *, group: int = 4
) -> Tensor:
    r"""Score function whose baseline is the mean loss of the other samples in its group.

    $\hat g = \frac{1}{M} \sum_m \bigl(f(1_{c_m}) - \tfrac{1}{M-1} \sum_{j \ne m} f(1_{c_j})\bigr) (1_{c_m} - q)$

    Args:
        f: the loss on points of the simplex, (..., K) -> (...); it need not be differentiable.
        logits: (..., K).
        generator: source of randomness.
        samples: S, how many estimates; each calls f `group` times.
        group: M >= 2.
    Returns:
        Gradient estimates, (S, ..., K). Unbiased.
    Raises:
        ValueError: for a group of fewer than two.

    Kool et al., 2019; chapter 5.
    """
    if group < 2:
        raise ValueError(f"a group must have at least two samples, got {group}")
    corner = _draw(logits, generator, samples * group).unflatten(0, (samples, group))
    value = f(corner).detach()  # (S, M, ...)
    others = (value.sum(1, keepdim=True) - value) / (group - 1)
    return ((value - others).unsqueeze(-1) * (corner - logits.detach().softmax(-1))).mean(1)


def gumbel_softmax_gradient(
    f: Loss, logits: Tensor, generator: torch.Generator, samples: int, *, temperature: float = 1.0
) -> Tensor:
    r"""Gradient of f at a relaxed sample: $\hat g = J_y^\top \nabla f(y)$, $y = \mathrm{softmax}((\ell + g) / \tau)$.

    Args:
        f: the loss, differentiable and defined inside the simplex, (..., K) -> (...).
        logits: (..., K).
        generator: source of randomness.
        samples: S, how many estimates; each calls f once, forward and backward.
        temperature: tau > 0.
    Returns:
        Gradient estimates, (S, ..., K); unbiased for $\mathbb{E} f(y)$, biased for F.

    Jang et al., 2017; Maddison et al., 2017; chapter 5.
    """
    return _through(f, _perturbed(logits, generator, samples), temperature, hard=False)


def straight_through_gumbel(
    f: Loss, logits: Tensor, generator: torch.Generator, samples: int, *, temperature: float = 1.0
) -> Tensor:
    r"""Forward the code that was drawn, backward the relaxed sample: $\hat g = J_y^\top \nabla f(1_c)$.

    Args:
        f: the loss, differentiable at the corners of the simplex, (..., K) -> (...).
        logits: (..., K).
        generator: source of randomness.
        samples: S, how many estimates; each calls f once, forward and backward.
        temperature: tau > 0, of the backward pass only.
    Returns:
        Gradient estimates, (S, ..., K). Biased.

    Jang et al., 2017; chapter 5.
    """
    return _through(f, _perturbed(logits, generator, samples), temperature, hard=True)


def gumbel_rao(
    f: Loss,
    logits: Tensor,
    generator: torch.Generator,
    samples: int,
    *,
    temperature: float = 1.0,
    inner: int = 16,
) -> Tensor:
    r"""Straight-through Gumbel, its backward pass averaged over the noise that would have drawn the same code.

    $\hat g = \bigl(\tfrac{1}{R} \sum_r J_{y^{(r)}}\bigr)^{\!\top} \nabla f(1_c)$,
    each $y^{(r)}$ drawn given that c wins.
    The mean is that of `straight_through_gumbel`, the variance is smaller, f is called once.

    Args:
        f: the loss, differentiable at the corners of the simplex, (..., K) -> (...).
        logits: (..., K).
        generator: source of randomness.
        samples: S, how many estimates.
        temperature: tau > 0.
        inner: R, draws of the noise for each sample.
    Returns:
        Gradient estimates, (S, ..., K).

    Paulus et al., 2021; chapter 5.
    """
    _positive(temperature)
    logits = _logits(logits).detach()
    corner = _draw(logits, generator, samples)
    slope = _slope(f, corner)
    total = torch.zeros_like(slope)
    for _ in range(inner):
        total += _soft_backward(_perturbed_given(logits, corner, generator), slope, temperature)
    return total / inner


class Error(NamedTuple):
    """How far gradient estimates are from the exact gradient.

    Attributes:
        bias_sq: squared length of (mean estimate - exact), with the Monte Carlo error of the mean taken off; it
            is unbiased, so it may come out a little below zero.
        variance: expected squared distance of one estimate from the mean estimate.
    """

    bias_sq: Tensor
    variance: Tensor


def measure_error(estimates: Tensor, exact: Tensor) -> Error:
    r"""Squared bias and variance of gradient estimates.

    $\lVert \bar g - g \rVert^2 - \hat v / S$ with $\bar g$ the mean of S estimates and $\hat v$ their sample variance,
    summed over entries: the squared length of a noisy mean is too large by v / S.

    Args:
        estimates: (S, ..., K), independent, S >= 2.
        exact: (..., K).
    Returns:
        An `Error` of tensors (...).
    Raises:
        ValueError: for fewer than two estimates.
    """
    if len(estimates) < 2:
        raise ValueError(f"a variance needs at least two estimates, got {len(estimates)}")
    variance = estimates.var(0).sum(-1)
    distance = (estimates.mean(0) - exact).square().sum(-1)
    return Error(distance - variance / len(estimates), variance)


def _logits(logits: Tensor) -> Tensor:
    if logits.ndim < 1 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating point (..., K), got {logits.dtype} {tuple(logits.shape)}")
    return logits


def _positive(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")


def _draw(logits: Tensor, generator: torch.Generator, samples: int) -> Tensor:
    """Corners of the simplex drawn from softmax(logits) by Gumbel-max, (S, ..., K)."""
    return _winner(_perturbed(logits, generator, samples))


def _winner(perturbed: Tensor) -> Tensor:
    """The corner of the largest entry, (..., K)."""
    return one_hot(perturbed.argmax(-1), perturbed.shape[-1]).to(perturbed.dtype)


def _perturbed(logits: Tensor, generator: torch.Generator, samples: int) -> Tensor:
    """Logits plus fresh Gumbel noise for each sample, (S, ..., K)."""
    logits = _logits(logits).detach()
    return logits + gumbel_noise((samples, *logits.shape), generator=generator, like=logits)


def _slope(f: Loss, y: Tensor) -> Tensor:
    """Gradient of f at each point of the simplex, (S, ..., K)."""
    y = y.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(f(y).sum(), y)[0]


def _soft_backward(perturbed: Tensor, slope: Tensor, temperature: float) -> Tensor:
    """The softmax Jacobian at y = softmax(perturbed / tau), transposed, times slope: y (slope - y.slope) / tau."""
    y = (perturbed / temperature).softmax(-1)
    return y * (slope - (y * slope).sum(-1, keepdim=True)) / temperature


def _through(f: Loss, perturbed: Tensor, temperature: float, *, hard: bool) -> Tensor:
    """Slope of f at the hard or at the relaxed sample, through the Jacobian of the relaxed one."""
    _positive(temperature)
    at = _winner(perturbed) if hard else (perturbed / temperature).softmax(-1)
    return _soft_backward(perturbed, _slope(f, at), temperature)


def _perturbed_given(logits: Tensor, corner: Tensor, generator: torch.Generator) -> Tensor:
    """Logits plus Gumbel noise, given which of them is the largest, (S, ..., K).

    The winner's height is a standard Gumbel, whoever wins (logits are normalised here); the others are Gumbels
    around their log-probabilities, cut off at that height.
    """
    race = torch.empty_like(corner).exponential_(generator=generator)
    first = (race * corner).sum(-1, keepdim=True)
    return torch.where(corner.bool(), -first.log(), -(race / logits.softmax(-1) + first).log())

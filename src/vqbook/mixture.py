"""A mixture of Gaussians: its density, whose turn it is at a point, and drawing from it.

Shapes: K components in D dimensions. Each component has one variance for all its dimensions; logarithms are natural.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vqbook.vae import LOG_2PI


class Draw(NamedTuple):
    """Points drawn from a mixture.

    Attributes:
        codes: which component each point came from, int64, (N,).
        z: the points, (N, D).
    """

    codes: Tensor
    z: Tensor


def log_joint(z: Tensor, mu: Tensor, log_var: Tensor | float, log_pi: Tensor | None = None) -> Tensor:
    r"""Log probability of each component together with a point.

    $\log p(c = k, z) = \log \pi_k - \frac{\lVert z - \mu_k \rVert^2}{2 \sigma_k^2} - \frac D2 \log 2\pi\sigma_k^2$

    The last term is the normaliser. It may be forgotten only where all variances are the same.

    Args:
        z: where, (..., D).
        mu: means, the codebook, (K, D).
        log_var: $\log \sigma_k^2$, (K,), or one number for all.
        log_pi: log prior over components, (K,); by default all are equally likely.
    Returns:
        (..., K), in nats.
    Raises:
        ValueError: shapes that do not fit.

    Chapter 6.
    """
    if mu.ndim != 2 or len(mu) == 0 or z.ndim < 1 or z.shape[-1] != mu.shape[1]:
        raise ValueError(f"z must be (..., D) and mu (K, D), got {tuple(z.shape)} and {tuple(mu.shape)}")
    log_var = _per_component("log_var", log_var, mu)
    if log_pi is None:
        log_pi = mu.new_zeros(len(mu)).log_softmax(-1)
    log_pi = _per_component("log_pi", log_pi, mu)
    sq_dist = (z.unsqueeze(-2) - mu).square().sum(-1)  # (..., K)
    return log_pi - 0.5 * (sq_dist * (-log_var).exp() + mu.shape[1] * (LOG_2PI + log_var))


def log_density(z: Tensor, mu: Tensor, log_var: Tensor | float, log_pi: Tensor | None = None) -> Tensor:
    r"""Log density of the mixture, $\log p(z) = \log \sum_k p(c = k, z)$, by log-sum-exp.

    Args, Raises: as log_joint.
    Returns:
        (...), in nats.

    Chapter 6.
    """
    return log_joint(z, mu, log_var, log_pi).logsumexp(-1)


def responsibilities(z: Tensor, mu: Tensor, log_var: Tensor | float, log_pi: Tensor | None = None) -> Tensor:
    r"""Probability that a point came from each component, $p(c = k \mid z) = p(c = k, z) / p(z)$.

    Args, Raises: as log_joint.
    Returns:
        (..., K), rows sum to one.

    Chapter 6.
    """
    return log_joint(z, mu, log_var, log_pi).softmax(-1)


def ancestral_sample(
    n: int,
    mu: Tensor,
    log_var: Tensor | float,
    log_pi: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Draw:
    r"""Draw from the mixture in the order of its story: first the component, then a point around its mean.

    $c \sim \pi$, then $z = \mu_c + \sigma_c \varepsilon$ with $\varepsilon \sim \mathcal{N}(0, I)$

    Args:
        n: N, how many points.
        mu, log_var, log_pi: as in log_joint.
        generator: source of both draws, on the device of mu.
    Returns:
        Draw.
    Raises:
        ValueError: n below 1, or shapes that do not fit.

    Chapter 6.
    """
    if n < 1 or mu.ndim != 2:
        raise ValueError(f"n must be at least 1 and mu (K, D), got {n} and {tuple(mu.shape)}")
    log_var = _per_component("log_var", log_var, mu)
    pi = mu.new_ones(len(mu)) if log_pi is None else _per_component("log_pi", log_pi, mu).exp()
    codes = torch.multinomial(pi, n, replacement=True, generator=generator)
    noise = torch.randn(n, mu.shape[1], generator=generator, dtype=mu.dtype, device=mu.device)
    return Draw(codes, mu[codes] + (0.5 * log_var[codes]).exp().unsqueeze(-1) * noise)


def _per_component(name: str, value: Tensor | float, mu: Tensor) -> Tensor:
    """A number or a vector as one entry for each component, (K,)."""
    given = torch.as_tensor(value, dtype=mu.dtype, device=mu.device)
    if given.shape not in ((), (len(mu),)):
        raise ValueError(f"{name} must be a number or ({len(mu)},), got {tuple(given.shape)}")
    return given.expand(len(mu))

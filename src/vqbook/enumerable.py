"""Toy models whose evidence is known exactly, to hold the ELBO, the ALBO and its readings against it.

A *code toy* has a discrete latent alone: $p(c)$ and $p(x \\mid c)$, sums over K codes. A *mixture toy* has chapter 6's
whole latent in one dimension,
$p(c)\\, \\mathcal{N}(z; \\mu_c, \\sigma_z^2)\\, \\mathcal{N}(x; \\hat x(z), \\sigma_x^2)$, with integrals
over z on a grid. Everything is a pure function of tensors and is meant for float64; in nats.

n: inputs, equally likely; K: codes. Chapter 7.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from vqbook.objectives import categorical_kl
from vqbook.vae import elbo_surgery

GRID = torch.linspace(-11, 11, 4_401, dtype=torch.float64)  # standard deviations from a component's mean
MOST_BATCHES = 1_000_000


class CodeBounds(NamedTuple):
    """A code toy under a guesser, averaged over the inputs.

    Attributes:
        evidence: mean log p(x).
        elbo: $\\mathbb{E}_q[\\log p(x \\mid c)] - \\mathrm{KL}(q(c \\mid x) \\Vert p(c))$.
        albo: the same with $\\mathrm{KL}(\\bar q(c) \\Vert p(c))$.
        information: $I_q(x; c)$.
    """

    evidence: Tensor
    elbo: Tensor
    albo: Tensor
    information: Tensor


def code_posterior(log_lik: Tensor, log_prior: Tensor) -> Tensor:
    r"""Exact posterior of a code toy, $p(c \mid x) \propto p(c)\, p(x \mid c)$.

    Args:
        log_lik: $\log p(x_i \mid c)$, (n, K).
        log_prior: $\log p(c)$, (K,).
    Returns:
        (n, K), rows sum to one.
    """
    return (log_prior + log_lik).softmax(-1)


def code_bounds(q: Tensor, log_lik: Tensor, log_prior: Tensor) -> CodeBounds:
    """Evidence, ELBO and ALBO of a code toy, the last by surgery on the code KL.

    Args:
        q: a guess $q(c \\mid x_i)$, (n, K), rows sum to one.
        log_lik: $\\log p(x_i \\mid c)$, (n, K).
        log_prior: $\\log p(c)$, (K,).
    Raises:
        ValueError: q and log_lik have different shapes, or elbo_surgery refuses q or the prior.

    Chapter 7.
    """
    if q.shape != log_lik.shape:
        raise ValueError(
            f"q and log_lik must have one shape, got {tuple(q.shape)} and {tuple(log_lik.shape)}"
        )
    price, information, marginal = elbo_surgery(q, log_prior.exp())
    fit = (q * log_lik).sum(-1).mean()
    evidence = (log_prior + log_lik).logsumexp(-1).mean()
    return CodeBounds(evidence, fit - price, fit - marginal, information)


@cache
def _batches(n: int, size: int) -> tuple[Tensor, Tensor]:
    """Every multiset of `size` among n inputs as counts (m, n), and its chance (m,) in draws with replacement."""
    many = math.comb(n + size - 1, size)
    if many > MOST_BATCHES:
        raise ValueError(
            f"{n} inputs make {many:,} batches of {size}; at most {MOST_BATCHES:,} are enumerated"
        )
    places = torch.tensor(list(itertools.combinations(range(n + size - 1), n - 1)), dtype=torch.float64)
    places = places.reshape(many, n - 1)  # bars among stars
    left = torch.full((many, 1), -1.0, dtype=torch.float64)
    right = torch.full((many, 1), n + size - 1.0, dtype=torch.float64)
    counts = torch.cat([left, places, right], 1).diff(dim=1) - 1
    log_chance = math.lgamma(size + 1) - torch.lgamma(counts + 1).sum(1) - size * math.log(n)
    return counts, log_chance.exp()


def batch_aggregate_kl(q: Tensor, prior: Tensor, size: int) -> Tensor:
    r"""What the code term of ALBO is worth on average when the aggregate is that of a batch.

    $\mathbb{E}_B\, \mathrm{KL}(\hat q_B \Vert p)$ over all batches of M inputs, drawn independently; M = 1 gives the
    ELBO's code term and $M \to \infty$ the ALBO's.

    Args:
        q: $q(c \mid x_i)$, (n, K).
        prior: $p(c)$, (K,).
        size: M, at least 1. All $\binom{n+M-1}{M}$ batches are enumerated.
    Returns:
        A scalar, exact.
    Raises:
        ValueError: more than a million batches, or a size below 1.

    Chapter 7.
    """
    if size < 1:
        raise ValueError(f"a batch holds at least 1 input, got size = {size}")
    counts, chance = _batches(len(q), size)
    mean = counts.to(q) @ q / size  # (m, K)
    kl = (torch.special.xlogy(mean, mean) - torch.special.xlogy(mean, prior)).sum(-1)
    return chance.to(q) @ kl


class ChainRule(NamedTuple):
    """total = between + within: $I(x; c) = I(d; c) + I(x; c \\mid d)$."""

    total: Tensor
    between: Tensor
    within: Tensor


def information_chain(q: Tensor) -> ChainRule:
    r"""Mutual information of codes with grouped inputs, split into that of the group and that inside it.

    $I(x; c) = I(d; c) + I(x; c \mid d)$, where d is the group (an image) of x (one of its positions).

    Args:
        q: $q(c \mid x_{d,i})$ of n equally likely groups of N inputs each, (n, N, K).
    Returns:
        ChainRule, in nats.
    Raises:
        ValueError: q has no such shape.

    Cover and Thomas, 2006; chapter 7.
    """
    if q.ndim != 3:
        raise ValueError(f"q must be (groups, members, K), got {tuple(q.shape)}")

    def entropy(p: Tensor) -> Tensor:
        return torch.special.entr(p).sum(-1)

    of_groups = q.mean(1)  # (n, K)
    all_, groups, single = entropy(of_groups.mean(0)), entropy(of_groups).mean(), entropy(q).mean()
    return ChainRule(all_ - single, all_ - groups, groups - single)


class MixtureToy(NamedTuple):
    """Chapter 6's generative story in one dimension.

    Attributes:
        means: $\\mu_k$, (K,).
        log_prior: $\\log p(c)$, (K,).
        sigma_z, sigma_x: standard deviations of z around its mean and of x around the decoder's output.
        decode: $\\hat x(z)$, any function of a tensor of z, elementwise.
    """

    means: Tensor
    log_prior: Tensor
    sigma_z: float
    sigma_x: float
    decode: Callable[[Tensor], Tensor] = lambda z: z


class MixtureBounds(NamedTuple):
    """A mixture toy under a guesser: evidence, ELBO and the three readings of ALBO, one number for each input (n,).

    Attributes:
        evidence: log p(x).
        elbo: reconstruction - latent KL - code KL.
        principled: reading P, reconstruction - latent KL - KL of the aggregate.
        trained: reading S, reconstruction + E log p(z | c) - KL of the aggregate; the entropy of z is missing.
        literal: reading L, c drawn from the aggregate, independently of z.
        information: KL(q(c | x) || aggregate), whose mean is $I_q(x; c)$.
        entropy: $\\mathbb{E}_{q(c \\mid x)} h(q(z \\mid x, c))$, differential, so it may be negative.
        mixture_entropy: $h(q(z \\mid x))$ of the mixture $\\sum_c q(c \\mid x)\\, q(z \\mid x, c)$.
    """

    evidence: Tensor
    elbo: Tensor
    principled: Tensor
    trained: Tensor
    literal: Tensor
    information: Tensor
    entropy: Tensor
    mixture_entropy: Tensor


def normal_log_density(x: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    """Log density of one Gaussian number; all arguments broadcast."""
    variance = torch.as_tensor(variance, dtype=x.dtype)
    return -0.5 * ((x - mean).square() / variance + (2 * math.pi * variance).log())


def mixture_bounds(toy: MixtureToy, x: Tensor, q: Tensor, variance: Tensor) -> MixtureBounds:
    r"""Exact evidence, ELBO and the three readings of ALBO for a mixture toy; the aggregate is the mean of q.

    The guesser is $q(c \mid x)\, \mathcal{N}(z; \mu_c, s_c(x))$, with the means of the prior. Averages over a Gaussian
    are sums over 4,401 points within eleven standard deviations, which is exact to rounding as long as the decoder is
    smooth and $\sigma_x$ is not much below a hundredth of the widest standard deviation.

    Args:
        toy: the generative model.
        x: inputs, (n,), float64.
        q: $q(c \mid x_i)$, (n, K).
        variance: $s_c(x_i)$, (n, K), above 0.
    Raises:
        ValueError: the shapes do not fit, or a variance is not above 0.

    Chapter 7.
    """
    n, K = len(x), len(toy.means)
    if q.shape != (n, K) or variance.shape != (n, K):
        raise ValueError(f"expected q and variance ({n}, {K}), got {tuple(q.shape)}, {tuple(variance.shape)}")
    if not (variance > 0).all():
        raise ValueError("variances must lie above 0")
    weight = normal_log_density(GRID, 0.0, 1.0).exp()
    weight = weight / weight.sum()  # of the points of the grid

    def log_lik(z: Tensor) -> Tensor:  # (n, K, points)
        return normal_log_density(x[:, None, None], toy.decode(z), toy.sigma_x**2)

    z_prior = (toy.means[:, None] + toy.sigma_z * GRID).expand(n, K, -1)
    evidence = (toy.log_prior[:, None] + weight.log() + log_lik(z_prior)).flatten(1).logsumexp(-1)
    z = toy.means[:, None] + variance.sqrt()[..., None] * GRID  # (n, K, points), under q(z | x, c)
    reconstruction = (q * (log_lik(z) @ weight)).sum(-1)
    prior_z = normal_log_density(z, toy.means[:, None], toy.sigma_z**2) @ weight  # (n, K)
    each_entropy = 0.5 * (2 * math.pi * math.e * variance).log()  # (n, K)
    entropy, log_p_z = (q * each_entropy).sum(-1), (q * prior_z).sum(-1)

    aggregate = q.mean(0)
    code_kl, aggregate_kl = (categorical_kl(p, toy.log_prior) for p in (q, aggregate))
    others = normal_log_density(z[:, :, None], toy.means[:, None], toy.sigma_z**2) @ weight  # (n, K, other)
    far = torch.einsum("nk,nkj,j->n", q, others, aggregate)  # log p(z | c) for c from the aggregate
    parts = q.log()[:, None, :, None] + normal_log_density(
        z[:, :, None], toy.means[:, None], variance[:, None, :, None]
    )
    mixture_entropy = -(q * (parts.logsumexp(2) @ weight)).sum(-1)
    principled = reconstruction + log_p_z + entropy - aggregate_kl
    return MixtureBounds(
        evidence,
        reconstruction + log_p_z + entropy - code_kl,
        principled,
        principled - entropy,
        reconstruction + far - aggregate_kl,
        categorical_kl(q, aggregate.clamp_min(1e-300).log()),
        entropy,
        mixture_entropy,
    )


class Market(NamedTuple):
    """The best posterior under ALBO and the prices that bring it about.

    Attributes:
        q: $q(c \\mid x_i)$, (n, K): certain, except in rows that are indifferent between codes.
        price: $v_c = \\beta \\log \\bar q(c) / p(c)$, (K,).
        primal: the objective at q.
        dual: the objective of the prices; it is never below the primal, and equal at the optimum.
    """

    q: Tensor
    price: Tensor
    primal: Tensor
    dual: Tensor


def market_primal(q: Tensor, score: Tensor, log_prior: Tensor, beta: float) -> Tensor:
    r"""$\frac1n \sum_i \sum_c q(c \mid x_i)\, s(x_i, c) - \beta\, \mathrm{KL}(\bar q \Vert p)$, a scalar."""
    return (q * score).sum(-1).mean() - beta * categorical_kl(q.mean(0), log_prior)


def market_dual(price: Tensor, score: Tensor, log_prior: Tensor, beta: float) -> Tensor:
    r"""$\frac1n \sum_i \max_c [s(x_i, c) - v_c] + \beta \log \sum_c p(c)\, e^{v_c / \beta}$, a scalar."""
    return (score - price).amax(-1).mean() + beta * (log_prior.exp() @ (price / beta).expm1()).log1p()


def clear_market(score: Tensor, log_prior: Tensor, beta: float = 1.0, *, smoothing: float = 1e-9) -> Market:
    r"""Maximise ALBO over all posteriors of a toy, exactly.

    $\max_q \mathbb{E}_x \sum_c q(c \mid x)\, s(x, c) - \beta\, \mathrm{KL}(\bar q \Vert p)$. The dual is minimised over
    prices by Newton's method, with the maximum over codes softened at a temperature that falls to `smoothing`. Dual
    minus primal certifies the result: it is at most smoothing times log K, and rounding.

    Args:
        score: $s(x_i, c)$, reconstruction minus latent KL when code c is used, (n, K), float64.
        log_prior: $\log p(c)$, (K,).
        beta: weight of the code term, above 0.
        smoothing: the last temperature.
    Returns:
        Market; the price is $\beta \log \bar q / p$ up to rounding.
    Raises:
        ValueError: beta is not above 0, or the shapes do not fit.

    Chapter 7.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be a finite number above 0, got {beta}")
    if score.ndim != 2 or log_prior.shape != score.shape[1:]:
        raise ValueError(f"expected (n, K) and (K,), got {tuple(score.shape)} and {tuple(log_prior.shape)}")
    n, K = score.shape
    price, soft = torch.zeros_like(log_prior), max(1.0, (score.amax(-1) - score.amin(-1)).max().item())

    def value(v: Tensor) -> Tensor:  # minus a constant; exact also where v is small beside beta
        taken = soft * ((score - score.amax(-1, keepdim=True) - v) / soft).logsumexp(-1).mean()
        return taken + beta * (log_prior.exp() @ (v / beta).expm1()).log1p()

    def gap(
        v: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # what is taken, row by row; what v calls for; the difference
        q, wanted = ((score - v) / soft).softmax(-1), (log_prior + v / beta).softmax(0)
        return q, wanted, wanted - q.mean(0)

    while True:
        for _ in range(60):
            q, wanted, slope = gap(price)
            if slope.abs().max() < 1e-12:
                break
            bend = (torch.diag(q.mean(0)) - q.T @ q / n) / soft
            bend = bend + (torch.diag(wanted) - torch.outer(wanted, wanted)) / beta
            bend = bend + torch.full_like(bend, bend.diagonal().max().item() / K)  # prices: up to a constant
            step, length, now = torch.linalg.solve(bend, slope), 1.0, value(price)
            while length > 1e-6:  # near the end rounding hides the value, and the gap still tells
                tried = price - length * step
                if value(tried) < now or gap(tried)[2].abs().max() < slope.abs().max() / 2:
                    break
                length /= 2
            else:
                break
            price = tried - log_prior.exp() @ tried
        if soft <= smoothing:
            break
        soft = max(soft / 2, smoothing)
    price = (
        price - beta * (log_prior.exp() @ (price / beta).expm1()).log1p()
    )  # so that v = beta log(q bar / p)
    return Market(
        q, price, market_primal(q, score, log_prior, beta), market_dual(price, score, log_prior, beta)
    )

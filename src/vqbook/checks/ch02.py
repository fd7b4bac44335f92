"""Checks of chapter 2, Evidence and its bounds.

Each compares with the definition on random inputs; where an answer differs, it is held against the values that
the usual mistakes would give, so that the message can name the mistake.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqbook.checks import check, describe, expect_close, expect_shape, fail, refuse_numpy

Answer = Callable[..., Any]
Mistakes = list[tuple[str, Tensor]]


def _normal(*shape: int, rng: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def _close(value: Tensor, expected: Tensor) -> bool:
    return value.shape == expected.shape and torch.allclose(value.double(), expected, rtol=1e-5, atol=1e-7)


def _match(value: Tensor, expected: Tensor, mistakes: Mistakes, name: str) -> None:
    """Fail unless the value is right, with the first mistake that explains it."""
    if _close(value.detach(), expected):
        return
    for message, wrong in mistakes:
        if _close(value.detach(), wrong):
            fail(f"{name}: {message}")
    if _close(value.detach(), -expected):
        fail(f"{name} has the wrong sign.")
    expect_close(value, expected, name=name, rtol=1e-5, atol=1e-7)


def _per_image(value: Any, batch: int, latent: int, name: str) -> Tensor:
    """The value as a tensor (B,), or a failure that says which axis was treated wrongly."""
    refuse_numpy(value, name)
    if isinstance(value, float) or (isinstance(value, Tensor) and value.ndim == 0):
        fail(f"{name} is one number for the whole batch: sum over the dimensions and keep the images apart.")
    if isinstance(value, Tensor) and tuple(value.shape) == (latent,):
        fail(f"{name} was reduced over the batch: sum over the last axis, the dimensions.")
    if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == latent:
        fail(f"{name} still has one entry for each dimension: independent coordinates add up.")
    expect_shape(value, (batch,), name)
    return value


def _divergence(mean: Tensor, var: Tensor, prior_mean: Tensor, prior_var: Tensor) -> Tensor:
    ratio = var / prior_var
    return 0.5 * (ratio - 1 - ratio.log() + (mean - prior_mean).square() / prior_var).sum(-1)


@check("ex-gaussian-kl", takes="mean, log_var, prior_mean, prior_log_var, noise")
def kl_two_ways(answer: Answer, rng: torch.Generator) -> str:
    """Exact divergence of two Gaussians (B,), and the average of log q - log p over given draws (B,)."""
    B, D, n = 5, 3, 40
    m, lv, pm, plv = (_normal(B, D, rng=rng) for _ in range(4))
    noise = _normal(n, B, D, rng=rng)
    returned = answer(m, lv, pm, plv, noise)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        fail(f"return two things, the exact divergence and the estimate; {describe(returned)} arrived.")
    exact = _per_image(returned[0], B, D, "the exact divergence")
    if isinstance(returned[1], Tensor) and tuple(returned[1].shape) == (n, B):
        fail("the estimate still has one entry for each draw: average over the first axis.")
    estimate = _per_image(returned[1], B, D, "the estimate")

    def half(t: Tensor) -> Tensor:
        return 0.5 * t.sum(-1)

    def drawn(sd: Tensor) -> Tensor:
        """Average of log q - log p when the draws were made with this standard deviation."""
        z = m + sd * noise
        log_q = -0.5 * ((z - m).square() / lv.exp() + lv)
        log_p = -0.5 * ((z - pm).square() / plv.exp() + plv)
        return (log_q - log_p).sum(-1).mean(0)

    v, pv, far = lv.exp(), plv.exp(), (m - pm).square()
    truth, sampled = _divergence(m, v, pm, pv), drawn((0.5 * lv).exp())
    if _close(exact, sampled) and _close(estimate, truth):
        fail("the two results have changed places: the exact divergence comes first.")
    _match(
        exact,
        truth,
        [
            ("the factor 1/2 is missing.", 2 * truth),
            ("it is averaged over the dimensions; independent coordinates add up.", truth / D),
            (
                "q and p have changed places: KL(q || p) is not symmetric, and draws come from q.",
                _divergence(pm, pv, m, v),
            ),
            (
                "the prior is taken to be the standard Gaussian; use prior_mean and prior_log_var.",
                half(m.square() + v - 1 - lv),
            ),
            (
                "prior_log_var is left out of the spring: the squared distance is divided by the prior's variance.",
                half(v / pv - 1 - lv + plv + far),
            ),
            (
                "the squared distance is divided by the variance of q; it is the prior that holds the spring.",
                half(v / pv - 1 - lv + plv + far / v),
            ),
            ("the means do not enter: a shifted Gaussian is another one.", half(v / pv - 1 - lv + plv)),
            (
                "the -1 is missing: at q = p the divergence has to be zero.",
                half(v / pv - lv + plv + far / pv),
            ),
            (
                "the logarithm of the ratio of variances has the wrong sign.",
                half(v / pv - 1 + lv - plv + far / pv),
            ),
            ("the logarithm of the ratio of variances is missing.", half(v / pv - 1 + far / pv)),
            (
                "log_var was read as the logarithm of the standard deviation: its exponential is the variance.",
                _divergence(m, v.square(), pm, pv.square()),
            ),
            (
                "exp(log_var / 2) is the standard deviation; the formula wants the variance.",
                _divergence(m, v.sqrt(), pm, pv.sqrt()),
            ),
            (
                "a variance was read as a standard deviation: exp(log_var) is squared already.",
                half((v / pv).square() - 1 - lv + plv + far / pv),
            ),
            (
                "log_var was used as the variance itself: take its exponential.",
                half(lv / plv - 1 - lv + plv + far / plv),
            ),
            ("the distance of the means is not squared.", half(v / pv - 1 - lv + plv + (m - pm).abs() / pv)),
        ],
        "the exact divergence",
    )
    _match(
        estimate,
        sampled,
        [
            ("the exact value came back twice: the noise has to enter.", truth),
            (
                "the draws were made with exp(log_var), the variance; noise is scaled by the standard deviation, "
                "exp(log_var / 2).",
                drawn(v),
            ),
            (
                "the draws were made with log_var itself; noise is scaled by exp(log_var / 2).",
                drawn(lv),
            ),
            ("it is summed over the draws; take their average.", sampled * n),
            ("it is averaged over the dimensions; independent coordinates add up.", sampled / D),
            ("it is log p - log q: the sign is turned round.", -sampled),
        ],
        "the estimate",
    )
    same = answer(m, lv, m, lv, noise)
    expect_close(same[0], torch.zeros(B), "From itself a Gaussian differs by nothing.", name="KL(q || q)")
    return "closed form and simulation are both right, between any two Gaussians."


@check("ex-iw", takes="log_lik, log_prior, log_q")
def iw_bound(answer: Answer, rng: torch.Generator) -> str:
    """log (1/k) sum_i exp(log_lik + log_prior - log_q), for weights (k, B), in log space; and max_i w_i / sum_i w_i."""
    k, B = 6, 4
    lik, prior, q = (_normal(k, B, rng=rng) for _ in range(3))
    returned = answer(lik, prior, q)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        fail(f"return two things, the bound and the largest weight's share; {describe(returned)} arrived.")
    value, share = returned
    refuse_numpy(value)
    refuse_numpy(share, "the share")

    def bound(log_w: Tensor) -> Tensor:
        return log_w.logsumexp(0) - math.log(k)

    log_w = lik + prior - q
    truth = bound(log_w)
    if isinstance(value, Tensor) and value.ndim == 0:
        if _close(value.detach(), log_w.flatten().logsumexp(0) - math.log(k * B)):
            fail("the weights of different images were averaged together inside the logarithm.")
        fail("one number came back for the whole batch; return one number for each image.")
    if isinstance(value, Tensor) and tuple(value.shape) == (k,):
        fail("the average was taken over the images, axis 1; the draws are on axis 0.")
    expect_shape(value, (B,), "the bound")
    _match(
        value,
        truth,
        [
            ("this is the average of the logarithms, the ELBO: average the weights, then take the logarithm.",
             log_w.mean(0)),
            ("log k is missing: a sum of k weights is k times their average.", log_w.logsumexp(0)),
            ("log k is added; dividing by k subtracts it.", log_w.logsumexp(0) + math.log(k)),
            ("divide by k inside the logarithm, or subtract log k; the bound itself was divided.",
             log_w.logsumexp(0) / k),
            ("the number of images was subtracted instead of the number of draws.",
             log_w.logsumexp(0) - math.log(B)),
            ("log_q is added; a weight is divided by q.", bound(lik + prior + q)),
            ("log_q is left out: draws come from q, and a weight is divided by it.", bound(lik + prior)),
            ("the prior is left out: a weight is p(x, z) / q, and p(x, z) contains p(z).", bound(lik - q)),
            ("the prior is subtracted: log p(x, z) is a sum.", bound(lik - prior - q)),
            ("the likelihood is left out: the weights say nothing about x.", bound(prior - q)),
            ("this is the largest weight, not their average.", log_w.max(0).values),
            ("the weights' average came back without its logarithm.", truth.exp()),
        ],
        "the bound",
    )  # fmt: skip
    shares = log_w.softmax(0)
    largest = shares.max(0).values
    if isinstance(share, Tensor) and tuple(share.shape) == (k, B):
        fail("the share still has one entry for each draw: keep the largest of the k.")
    expect_shape(share, (B,), "the share")
    _match(
        share,
        largest,
        [
            ("this is the largest weight itself; divide it by the sum of the k.", log_w.exp().max(0).values),
            ("this is the logarithm of the largest weight; its share of the sum is asked.", log_w.max(0).values),
            ("this is the logarithm of the share.", largest.log()),
            ("the largest weight is divided by the average; divide by the sum.", k * largest),
            ("this is the share of the smallest weight.", shares.min(0).values),
            ("this is the average share, which is 1/k whatever the weights are.", shares.mean(0)),
            ("the shares were taken over the images, axis 1.", log_w.softmax(1).max(0).values),
            ("the logarithms were divided by one another: take shares of weights.",
             log_w.max(0).values / log_w.sum(0)),
            ("this is the number of draws that count, 1 / (sum of squared shares); the largest share is asked.",
             1 / shares.square().sum(0)),
        ],
        "the share",
    )  # fmt: skip
    for shift in (-3_000.0, 3_000.0):
        far, far_share = answer(lik + shift, prior, q)
        for name, result in (("bound", far), ("share", far_share)):
            if not torch.isfinite(torch.as_tensor(result)).all():
                fail(
                    f"with log-likelihoods near {shift:g} the {name} is {float(result[0])}: exp leaves the range "
                    "of the numbers. Take the largest logarithm out first, or use torch.logsumexp."
                )
        expect_close(far, truth + shift, name=f"the bound, with log-likelihoods near {shift:g}", atol=1e-6)
        expect_close(far_share, largest, name=f"the share, with log-likelihoods near {shift:g}", atol=1e-6)
    alone = answer(lik[:1], prior[:1], q[:1])
    expect_close(alone[0], log_w[0], name="the bound of a single draw")
    expect_close(alone[1], torch.ones_like(log_w[0]), name="the share of a single draw")
    return "weights are averaged before the logarithm, and the share says whether one of them decides."


@check("ex-sum-mean", takes="x, x_hat, mean, log_var, sigma=1.0")
def sum_mean(answer: Answer, rng: torch.Generator) -> str:
    """Negative ELBO of Gaussian images, summed over pixels and dimensions, averaged over the batch."""
    B, C, H, W, D, sigma = 5, 2, 4, 3, 3, 0.7
    x, x_hat = torch.rand(2, B, C, H, W, generator=rng, dtype=torch.float64)
    m, lv = _normal(B, D, rng=rng), _normal(B, D, rng=rng)
    value = answer(x, x_hat, m, lv, sigma=sigma)
    refuse_numpy(value, "the loss")
    if isinstance(value, int | float):
        fail("the loss is a Python number, and a Python number has no gradient: leave out .item().")
    if isinstance(value, Tensor) and tuple(value.shape) == (B,):
        fail("one number for each image came back: average over the batch.")
    expect_shape(value, (), "the loss")

    P, log_norm = C * H * W, 0.5 * math.log(2 * math.pi * sigma**2)
    square = (x - x_hat).square()
    error = square.sum((1, 2, 3)).mean() / (2 * sigma**2)
    each = 0.5 * (m.square() + lv.exp() - 1 - lv)
    kl = each.sum(-1).mean()
    truth = error + P * log_norm + kl
    mse = square.mean()
    mistakes = [
        ("nothing has changed: both terms are still means.", mse + each.mean()),
        ("the squared error is still averaged over the pixels; sum them, or the price is P times too heavy.",
         error / P + P * log_norm + kl),
        ("likelihood and normaliser are averaged over the pixels and the price is not: their ratio is the model.",
         error / P + log_norm + kl),
        ("the price is averaged over the latent dimensions: independent coordinates add up.",
         error + P * log_norm + kl / D),
        ("everything is summed over the batch: average over the images.", B * truth),
        ("the squared error is summed over the batch and the price is averaged.",
         B * error + P * log_norm + kl),
        ("the price is summed over the batch: its weight would grow with the batch size.",
         error + P * log_norm + B * kl),
        ("sigma changes nothing: it is the exchange rate between errors and nats.",
         square.sum((1, 2, 3)).mean() / 2 + P * 0.5 * math.log(2 * math.pi) + kl),
        ("sigma is not squared in the squared error.", error * sigma + P * log_norm + kl),
        ("the squared error is not halved.", 2 * error + P * log_norm + kl),
        ("the squared error is not divided by 2 sigma^2.", error * 2 * sigma**2 + P * log_norm + kl),
        ("the normaliser is missing: without it a larger sigma would always look better.", error + kl),
        ("the normaliser is counted once; each of the P pixels brings one.", error + log_norm + kl),
        ("the normaliser has 2 pi sigma where the variance belongs.",
         error + P * 0.5 * math.log(2 * math.pi * sigma) + kl),
        ("the normaliser has lost its factor 1/2.", error + 2 * P * log_norm + kl),
        ("the normaliser has the wrong sign.", error - P * log_norm + kl),
        ("the price is subtracted: a loss pays it.", error + P * log_norm - kl),
        ("the price has lost its factor 1/2.", error + P * log_norm + 2 * kl),
        ("this is the ELBO; a loss is its negative.", -truth),
        ("both terms are divided by the number of pixels: the ratio is right, the unit is nats per pixel. "
         "Return nats per image.", truth / P),
    ]  # fmt: skip
    _match(value, torch.as_tensor(truth), mistakes, "the loss")
    taller = answer(torch.cat([x, x], 2), torch.cat([x_hat, x_hat], 2), m, lv, sigma=sigma)
    expect_close(taller - value, error + P * log_norm, name="what twice the pixels add", atol=1e-6)
    twice = answer(*(torch.cat([t, t]) for t in (x, x_hat, m, lv)), sigma=sigma)
    expect_close(twice, value, name="the loss of the batch taken twice", atol=1e-6)
    return "pixels and dimensions add up, images are averaged, and sigma is the exchange rate."

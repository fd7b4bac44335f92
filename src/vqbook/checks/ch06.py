"""Checks of chapter 6, a Gaussian mixture inside the autoencoder.

Each compares with the definition on random models and first tries the slips that give a plausible number: a sum over
the wrong axis, a blend where one code is meant, a variance for a deviation, a normaliser left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqbook.checks import check, expect_close, expect_dtype, expect_shape, fail

Answer = Callable[..., Any]


def _explained(arrived: Tensor, slips: dict[str, Tensor]) -> None:
    """Fail with the first slip whose values are those that arrived."""
    for message, wrong in slips.items():
        if arrived.shape == wrong.shape and torch.allclose(arrived, wrong.to(arrived), rtol=1e-4, atol=1e-5):
            fail(message)


def _pair(result: Any, names: str) -> tuple[Any, Any]:
    """The two things that a function should return."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        fail(f"return two things, {names}.")
    return result[0], result[1]


@check("ex-responsibilities", takes="z, mu, sigma, log_pi")
def responsibilities_stable(answer: Answer, rng: torch.Generator) -> str:
    """r (..., K) and log p(z) (...), also where every density underflows."""
    for lead in ((), (5,), (2, 3)):
        z, mu = torch.randn(*lead, 3, generator=rng), torch.randn(6, 3, generator=rng)
        log_pi = torch.randn(6, generator=rng).log_softmax(-1)
        sigma = 0.7
        r, log_p = _pair(answer(z, mu, sigma, log_pi), "the responsibilities and the log density")
        expect_shape(r, (*lead, 6), "the responsibilities")
        expect_shape(log_p, lead, "the log density")
        r, log_p = r.detach(), log_p.detach()
        d2 = (z.unsqueeze(-2) - mu).square().sum(-1)
        a = log_pi - d2 / (2 * sigma**2)
        right = a.softmax(-1)
        slips = {
            "These are the logarithms of the responsibilities; return the probabilities.": a.log_softmax(-1),
            "The distances have the wrong sign: far codes get the responsibility.": (
                log_pi + d2 / (2 * sigma**2)
            ).softmax(-1),
            "The log prior is missing: codes are not equally likely here.": (-d2 / (2 * sigma**2)).softmax(
                -1
            ),
            "The prior was added as a probability; the exponents need its logarithm.": (
                log_pi.exp() - d2 / (2 * sigma**2)
            ).softmax(-1),
            "The exponent has σ where σ² belongs.": (log_pi - d2 / (2 * sigma)).softmax(-1),
            "The factor one half is missing: the exponent is d² / 2σ².": (log_pi - d2 / sigma**2).softmax(-1),
            "The distance is not squared.": (log_pi - d2.sqrt() / (2 * sigma**2)).softmax(-1),
        }
        _explained(r, slips)
        if lead:
            _explained(
                r, {"The sum runs over the batch: it belongs to the codes, the last axis.": a.softmax(0)}
            )
        expect_close(r, right, name="the responsibilities")
        constant = -1.5 * math.log(2 * math.pi * sigma**2)
        m = a.max(-1).values
        _explained(
            log_p,
            {
                "The log density lacks the Gaussian's constant, -D/2 log(2πσ²).": a.logsumexp(-1),
                "The maximum was taken off and not added back to the log density.": a.logsumexp(-1)
                - m
                + constant,
                "This is the density; return its logarithm.": (a.logsumexp(-1) + constant).exp(),
                "The Gaussian's constant belongs to D dimensions: it lacks the factor D.": a.logsumexp(-1)
                + constant / 3,
            },
        )
        expect_close(log_p, a.logsumexp(-1) + constant, name="the log density")
    mu = torch.randn(4, 16, generator=rng)
    z = torch.stack([mu[0], mu[1] + 6, mu[2] - 30])  # near, far, very far
    r, log_p = _pair(
        answer(z, mu, 0.1, torch.full((4,), -math.log(4))), "the responsibilities and log density"
    )
    if not (torch.isfinite(r).all() and torch.isfinite(log_p).all()):
        fail(
            "a far vector gives values that are not finite: all its densities are zero in float32. Take the largest "
            "exponent of its own row off before exp."
        )
    a = -(z.unsqueeze(-2) - mu).square().sum(-1) / (2 * 0.1**2)
    expect_close(
        r,
        a.softmax(-1),
        "For a far vector: take the maximum over the codes, each row its own, and add nothing to the sum.",
        name="the responsibilities",
    )
    return "right near the codes, and still right where every density is zero in float32."


@check("ex-ancestral", takes="log_pi, mu, log_var, gumbel, noise")
def tell_story(answer: Answer, rng: torch.Generator) -> str:
    """codes (N,) = argmax(log_pi + gumbel), z (N, D) = mu_c + sigma_c noise."""
    n, k, dim = 300, 5, 4
    log_pi = torch.randn(k, generator=rng).log_softmax(-1)
    mu, log_var = torch.randn(k, dim, generator=rng), torch.randn(k, generator=rng)
    gumbel = -torch.empty(n, k).exponential_(generator=rng).log()
    noise = torch.randn(n, dim, generator=rng)
    codes, z = _pair(answer(log_pi, mu, log_var, gumbel, noise), "the codes and the points")
    expect_shape(codes, (n,), "the codes")
    expect_dtype(codes, torch.int64, "the codes")
    right = (log_pi + gumbel).argmax(-1)
    slips = {
        "The prior is not used: every code is drawn equally often. Add log_pi to the noise.": gumbel.argmax(
            -1
        ),
        "This is always the likeliest code; a draw needs the Gumbel noise.": log_pi.argmax(-1).expand(n),
        "The noise was added to the probabilities; add it to their logarithms.": (
            log_pi.exp() + gumbel
        ).argmax(-1),
        "The noise has the wrong sign: it is added.": (log_pi - gumbel).argmax(-1),
    }
    _explained(codes, slips)
    if not torch.equal(codes, right):
        fail("the codes should be those of argmax(log_pi + gumbel), one for each row.")
    expect_shape(z, (n, dim), "the points")
    z, own = z.detach(), (0.5 * log_var[right]).exp().unsqueeze(-1)
    pi = log_pi.exp()
    soft = (log_pi + gumbel).softmax(-1)
    _explained(
        z,
        {
            "The noise is multiplied by the variance; a standard deviation is exp(log_var / 2).": mu[right]
            + own**2 * noise,
            "The noise is multiplied by the log variance.": mu[right] + log_var[right].unsqueeze(-1) * noise,
            "All points lie around the average mean: draw one code for each point, do not blend them.": (
                pi @ mu + own * noise
            ),
            "The means are blended with a softmax of the scores: a sample has one parent.": soft @ mu
            + own * noise,
            "Every code has the same width here: take the width of the code that was drawn.": mu[right]
            + (0.5 * log_var).exp().mean() * noise,
            "The points do not miss their code: the noise is not used.": mu[right],
            "The widths are not used: the noise is standard normal around every code.": mu[right] + noise,
            "The noise is divided by the standard deviation.": mu[right] + noise / own,
        },
    )
    expect_close(z, mu[right] + own * noise, "z should be mu[c] + sigma[c] * noise.", name="the points")
    return "first the code, then the miss: one parent for each point."


@check("ex-normaliser", takes="z, mu, log_var, log_pi")
def with_widths(answer: Answer, rng: torch.Generator) -> str:
    """(..., K): softmax of log_pi - d^2 / 2 sigma_k^2 - D/2 log sigma_k^2."""
    for lead, dim in (((), 1), ((7,), 3), ((2, 3), 6)):
        z, mu = torch.randn(*lead, dim, generator=rng), torch.randn(5, dim, generator=rng)
        log_var = 1.2 * torch.randn(5, generator=rng)
        log_pi = torch.randn(5, generator=rng).log_softmax(-1)
        d2 = (z.unsqueeze(-2) - mu).square().sum(-1)
        base = log_pi - 0.5 * d2 / log_var.exp()
        r = answer(z, mu, log_var, log_pi)
        expect_shape(r, (*lead, 5), "the responsibilities")
        r = r.detach()
        half = 0.5 * dim * log_var
        _explained(
            r,
            {
                "The normaliser is still missing, or the same for all codes, so that it cancels: being wide costs "
                "nothing yet. A Gaussian's density carries its own σ to the power -D.": base.softmax(-1),
                "The normaliser has the wrong sign: being wide is rewarded instead of charged.": (
                    base + half
                ).softmax(-1),
                "The normaliser counts one dimension: its log is -D/2 log σ².": (
                    base - half / dim if dim > 1 else base - 99
                ).softmax(-1),
                "log_var is a log variance: -D/2 log_var, not -D log_var.": (base - 2 * half).softmax(-1),
                "The normaliser contains the variance itself; the exponent needs its logarithm.": (
                    base - 0.5 * dim * log_var.exp()
                ).softmax(-1),
                "The responsibilities were divided by σ^D after the softmax, so rows no longer add up to one.": (
                    base.softmax(-1) * (-half).exp()
                ),
                "The log prior has gone missing.": (base - log_pi - half).softmax(-1),
                "log_var was used as a variance: take its exponential.": (
                    log_pi - 0.5 * d2 / log_var - half
                ).softmax(-1),
            },
        )
        expect_close(r, (base - half).softmax(-1), name="the responsibilities")
    return "wide codes pay for their width, once for each dimension."


@check("ex-mixing", takes="y, mu, var, noise, rule")
def blended_sample(answer: Answer, rng: torch.Generator) -> str:
    """(..., D): y mu + s noise, with s^2 = sum y var or s = sum y sqrt(var)."""
    for lead in ((), (6,), (2, 4)):
        y = (2 * torch.randn(*lead, 5, generator=rng)).softmax(-1)
        mu, var = torch.randn(5, 3, generator=rng), torch.rand(*lead, 5, generator=rng) + 0.1
        noise = torch.randn(*lead, 3, generator=rng)
        mean, sd = y @ mu, var.sqrt()
        deviation = (y * sd).sum(-1, keepdim=True)
        variance = (y * var).sum(-1, keepdim=True).sqrt()
        own = (y.square() * var).sum(-1, keepdim=True).sqrt()
        hard = y.argmax(-1, keepdim=True)
        for rule, s, other in (("variance", variance, deviation), ("deviation", deviation, variance)):
            z = answer(y, mu, var, noise, rule)
            expect_shape(z, (*lead, 3), f"the sample by the {rule} rule")
            _explained(
                z.detach(),
                {
                    "The two rules are exchanged: blending variances takes the root last.": mean
                    + other * noise,
                    "The weights are squared: that is the rule for codes that each bring their own noise; "
                    "here there is one ε.": mean + own * noise,
                    "The noise is multiplied by a variance: take the root.": mean + variance**2 * noise,
                    "The weighted deviations are squared.": mean + deviation**2 * noise,
                    "The noise is not used.": mean + 0 * noise,
                    "The variances are summed without the weights y.": mean
                    + var.sum(-1, keepdim=True).sqrt() * noise,
                    "The deviations are summed without the weights y.": mean
                    + sd.sum(-1, keepdim=True) * noise,
                    "This takes the size of the noise from the largest weight alone: blend the sizes.": mean
                    + sd.gather(-1, hard) * noise,
                    "The mean is that of the largest weight alone: blend the means.": mu[hard.squeeze(-1)]
                    + s * noise,
                    "The noise is subtracted: add it.": mean - s * noise,
                },
            )
            expect_close(z, mean + s * noise, name=f"the sample by the {rule} rule")
    return "both rules, and they agree at the corners."

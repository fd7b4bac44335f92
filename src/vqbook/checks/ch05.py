"""Checks of chapter 5, gradients through choices.

The gradient of an expected loss has properties that give slips away: its entries sum to zero, a grade that all codes
share does not count, a certain choice has none. A straight-through sample is checked on value and gradient apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqbook.checks import check, expect_close, expect_shape, fail

Answer = Callable[..., Any]


def _explained(arrived: Tensor, slips: dict[str, Tensor]) -> None:
    """Fail with the first slip whose values are those that arrived."""
    for message, wrong in slips.items():
        if arrived.shape == wrong.shape and torch.allclose(arrived, wrong, rtol=1e-4, atol=1e-5):
            fail(message)


@check("ex-enumeration", takes="grades, logits")
def enumeration(answer: Answer, rng: torch.Generator) -> str:
    """dF/dlogits, (..., K), from grades and logits of that shape."""
    for lead in ((), (5,), (2, 3)):
        grades = 2 + torch.randn(*lead, 7, generator=rng)
        logits = 1.5 * torch.randn(*lead, 7, generator=rng)
        q = logits.softmax(-1)
        expected = (q * grades).sum(-1, keepdim=True)
        right = q * (grades - expected)
        g = answer(grades, logits)
        if isinstance(g, Tensor) and g.shape == right.shape[:-1]:
            fail(
                "one number came back for each row: that looks like the expected loss; return its gradient, (..., K)."
            )
        expect_shape(g, right.shape, "the gradient")
        g = g.detach()
        mean = grades.mean(-1, keepdim=True)
        slips = {
            "The average grade is not subtracted: this is q f, and the Jacobian of the softmax has a second part. "
            "A grade that all codes share should cancel.": q * grades,
            "The sign is wrong: the gradient points uphill, so a code worse than average has a positive "
            "entry.": -right,
            "The grades were compared with their plain mean; the average is weighted by the probabilities.": q
            * (grades - mean),
            "The factor q is missing: a code that is hardly ever drawn has hardly any gradient.": grades
            - expected,
            "Only the diagonal of the softmax Jacobian was used, q (1 - q) f: a logit also changes the "
            "probabilities of the other codes.": q * (1 - q) * grades,
            "The logits were used where the probabilities belong: take the softmax first.": (
                logits * (grades - (logits * grades).sum(-1, keepdim=True))
            ),
            "This is the gradient with respect to the probabilities, the grades themselves; go on to the "
            "logits.": grades,
            "This is the expected loss, once for each code; return its gradient.": expected.expand_as(grades),
        }
        _explained(g, slips)
        if lead:
            across = logits.softmax(0)
            _explained(
                g,
                {
                    "The softmax runs over the batch: it belongs to the codes, the last axis.": across
                    * (grades - (across * grades).sum(-1, keepdim=True)),
                    "The expected loss was summed over the whole batch: each row has its own, dim=-1.": q
                    * (grades - (q * grades).sum()),
                },
            )
        sums = g.sum(-1).abs().max()
        if sums > 1e-4:
            fail(
                f"the entries of a row add up to {g.sum(-1).flatten()[0].item():.3g}; they should add up to 0, because "
                "a constant added to all logits changes nothing."
            )
        expect_close(g, right, name="the gradient")
    sure = torch.full((7,), -60.0)
    sure[2] = 60.0
    certain = answer(grades[0, 0], sure)
    expect_close(certain, torch.zeros(7), "A choice that is certain has no gradient.", name="the gradient")
    return "each logit is graded against the average, for any leading axes."


@check("ex-st-gumbel", takes="logits, noise, temperature")
def st_gumbel(answer: Answer, rng: torch.Generator) -> str:
    """(..., K): one-hot of argmax(logits + noise) in value, softmax((logits + noise) / tau) in gradient."""
    for lead, tau in (((200,), 0.5), ((2, 90), 2.0), ((300,), 0.1)):
        logits = 1.5 * torch.randn(*lead, 5, generator=rng)
        noise = -torch.empty(*lead, 5).exponential_(generator=rng).log()
        leaf = logits.clone().requires_grad_()
        out = answer(leaf, noise, tau)
        expect_shape(out, logits.shape, "the sample")
        _expect_corner(out.detach().float(), logits, noise, tau)
        _expect_blend_gradient(out, leaf, noise, tau, torch.randn(*lead, 5, generator=rng))
    return "a corner in value, the blend in gradient, at every temperature."


def _one_hot(scores: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).float()


def _expect_corner(value: Tensor, logits: Tensor, noise: Tensor, tau: float) -> None:
    """Fail unless the value is the corner that Gumbel-max draws."""
    right = _one_hot(logits + noise)
    blend = ((logits + noise) / tau).softmax(-1)
    slips = {
        "The value is the blend itself: the decoder should see a corner. Add the corner and take the blend away "
        "again, under a stop-gradient.": blend,
        "The value is corner plus blend: subtract the blend's value, y.detach().": right + blend,
        "The value is corner minus blend: add the blend once more, outside the stop-gradient.": right - blend,
        "The noise has the wrong sign: it is added to the logits.": _one_hot(logits - noise),
        "The noise is not used: this is the likeliest code, always the same one. A draw needs the "
        "noise.": _one_hot(logits),
        "The temperature divides the noise only: then it changes which code is drawn. It divides logits and noise "
        "together.": _one_hot(logits + noise / tau),
        "The temperature divides the logits only (or multiplies the noise): then it changes which code is drawn. It "
        "divides logits and noise together.": _one_hot(logits / tau + noise),
        "The noise was added to the probabilities; add it to the logits (or log-probabilities).": _one_hot(
            logits.softmax(-1) + noise
        ),
        "This is the farthest corner, argmin for argmax.": _one_hot(-(logits + noise)),
    }
    if torch.allclose(value, right, atol=1e-5):
        return
    _explained(value, slips)
    if not torch.allclose(value.sum(-1), torch.ones_like(value[..., 0]), atol=1e-4):
        fail(f"a row of the value adds up to {value.sum(-1).flatten()[0].item():.3g}; a corner adds up to 1.")
    expect_close(value, right, "The value should be the corner of argmax(logits + noise).", name="the sample")


def _expect_blend_gradient(out: Tensor, leaf: Tensor, noise: Tensor, tau: float, arriving: Tensor) -> None:
    """Fail unless the gradient is that of softmax((logits + noise) / tau)."""
    if not out.requires_grad:
        fail(
            "no gradient reaches the logits: the one-hot corner is a constant for autograd. Add the blend and take its "
            "value away again, y - y.detach()."
        )
    (g,) = torch.autograd.grad((out * arriving).sum(), leaf, allow_unused=True)
    if g is None or not g.any():
        fail(
            "no gradient reaches the logits: the blend cancels or is detached as a whole. Only its value is taken away."
        )

    def backward(y: Tensor, scale: float) -> Tensor:
        return scale * y * (arriving - (y * arriving).sum(-1, keepdim=True))

    logits = leaf.detach()
    y, q = ((logits + noise) / tau).softmax(-1), logits.softmax(-1)
    right = backward(y, 1 / tau)
    _explained(
        g,
        {
            "The gradient is copied to the logits as it is: the Jacobian of the softmax is missing. The blend goes "
            "into the bracket, not the logits.": arriving,
            "The logits stand in the bracket, divided by the temperature: the softmax is missing.": arriving
            / tau,
            "The gradient has the wrong sign: the blend is subtracted and its detached value added.": -right,
            "The gradient does not know the temperature: divide before the softmax.": backward(
                (logits + noise).softmax(-1), 1.0
            ),
            "The backward pass goes through q, without the noise: use the same noise forward and backward.": backward(
                q, 1.0
            ),
            "The backward pass goes through softmax(logits / tau), without the noise: use the same noise "
            "forward and backward.": backward((logits / tau).softmax(-1), 1 / tau),
            "The gradient counts twice: the blend appears twice outside the stop-gradient.": 2 * right,
        },
    )
    if torch.allclose(g, right, rtol=1e-3, atol=1e-5):
        return
    expect_close(
        g,
        right,
        "The gradient should be that of the blend, softmax((logits + noise) / tau).",
        name="the gradient",
    )


@check("ex-control-variate", takes="f, logits, codes")
def control_variate(answer: Answer, rng: torch.Generator) -> str:
    """(S, K): (f(1_c) - h(1_c)) (1_c - q) + (diag(q) - q q') grad f(q), for each of S drawn codes."""
    first, second = torch.randn(6, 5, generator=rng), torch.randn(5, generator=rng)
    logits = 0.7 * torch.randn(6, generator=rng)
    q, corners = logits.softmax(-1), torch.eye(6)

    def bent(y: Tensor) -> Tensor:
        return 1 + (y @ first).tanh() @ second

    def flat(y: Tensor) -> Tensor:
        return 1 + y @ first[:, 0]

    grades, slope, s = bent(corners), torch.func.grad(bent)(q), corners - q
    every = answer(bent, logits, torch.arange(6))
    expect_shape(every, (6, 6), "the estimates, one row for each code,")
    every = every.detach()
    exact = q * (grades - q @ grades)
    known, tangent = q * (slope - q @ slope), bent(q) + s @ slope
    scored, rest = grades[:, None] * s, (grades - tangent)[:, None] * s
    _explained(
        every,
        {
            "The tangent is subtracted and its mean not added back: the estimate is biased by "
            "(diag(q) - q q') times the slope.": rest,
            "The known mean is subtracted: what the tangent took away is added back.": rest - known,
            "The known mean is added, but the tangent is not subtracted: now it counts twice.": scored
            + known,
            "The slope itself is added; its mean under the score is (diag(q) - q q') times the slope.": rest
            + slope,
            "This is the known mean alone, a straight-through gradient: the correction is missing.": (
                known.expand(6, 6)
            ),
            "The tangent lacks f(q), its value at the blend: still unbiased, but it keeps the scatter of a grade "
            "without a baseline.": (grades - s @ slope)[:, None] * s + known,
        },
    )
    mean = q @ every
    if not torch.allclose(mean, exact, rtol=1e-3, atol=1e-4):
        expect_close(mean, exact, "Averaged over all codes with their probabilities.", name="the mean")
    grades = flat(corners)
    exact = q * (grades - q @ grades)
    every = answer(flat, logits, torch.arange(6))
    expect_close(every, exact.expand(6, 6), "For a linear loss every estimate is exact.", name="an estimate")
    few = torch.tensor([2, 0, 2])
    expect_close(answer(flat, logits, few), exact.expand(3, 6), "Codes may repeat.", name="an estimate")
    return "exact on average for a bent loss, and draw by draw for a linear one."

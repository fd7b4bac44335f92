"""Checks of chapter 7, from ELBO to ALBO.

A number that is wrong is compared with what the usual slips would give, so that the message can name the slip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqbook.checks import check, expect_close, expect_shape, fail

Answer = Callable[..., Any]


def _explained(arrived: Any, right: Tensor, slips: dict[str, Tensor]) -> None:
    """Fail with the first slip whose value is the one that arrived, unless it is the right one."""
    got, wanted = (torch.as_tensor(value).detach().double() for value in (arrived, right))
    if torch.allclose(got, wanted, rtol=1e-5, atol=1e-6):
        return
    for message, wrong in slips.items():
        other = torch.as_tensor(wrong).detach().double()
        if got.shape == other.shape and torch.allclose(got, other, rtol=1e-4, atol=1e-5):
            fail(message)


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(-1)


@check("ex-albo-logits", takes="error, latent, logits, log_prior, sigma_x, pixels")
def albo_from_logits(answer: Answer, rng: torch.Generator) -> str:
    """ALBO of a picture in nats, from float32 logits that may be far apart."""
    for B, N, K in ((4, 6, 5), (3, 2, 8)):
        pixels, sigma = 12 * N, 0.3
        error = 2 + 3 * torch.rand(B, generator=rng)
        latent = 0.5 + torch.rand(B, N, generator=rng)
        logits = 2 * torch.randn(B, N, K, generator=rng)
        log_prior = (0.7 * torch.randn(K, generator=rng)).log_softmax(0)
        value = answer(error, latent, logits, log_prior, sigma, pixels)
        expect_shape(value, (), "the objective")
        log_q = logits.log_softmax(-1)
        rows = log_q.flatten(0, 1)
        marginal = _kl(rows.logsumexp(0) - math.log(B * N), log_prior)
        constant = pixels / 2 * math.log(2 * math.pi * sigma**2)
        fit = -error.mean() / (2 * sigma**2) - constant
        lost = latent.sum(1).mean()
        right = fit - lost - N * marginal
        mean_logits = logits.flatten(0, 1).mean(0).log_softmax(0)
        by_picture = _kl(log_q.logsumexp(1) - math.log(N), log_prior).mean()
        log_mean = rows.logsumexp(0) - math.log(B * N)
        entropy = -(log_mean.exp() * log_mean).sum()
        slips = {
            "This is the ELBO, with the mean of the divergences: ALBO averages the posteriors first and takes one "
            "divergence.": fit - lost - N * _kl(rows, log_prior).mean(),
            "The logits were averaged before the softmax; the aggregate is the mean of the probabilities.": fit
            - lost
            - N * _kl(mean_logits, log_prior),
            "Each picture has its own aggregate here: average over the pictures of the batch, too.": fit
            - lost
            - N * by_picture,
            "Reductions are mixed: the code term counts once for the picture, and the latent KL for each of its N "
            "positions. A picture pays N times the divergence.": fit - lost - marginal,
            "Reductions are mixed: the latent KL is averaged over positions and the rest is per picture. Sum over "
            "positions.": fit - latent.mean() - N * marginal,
            "Reductions are mixed: everything but the likelihood is per position.": fit
            - latent.mean()
            - marginal,
            "The Gaussian normaliser is forgotten: without P/2 log(2 pi sigma^2) the number cannot be compared with "
            "an evidence, nor with another sigma.": -error.mean() / (2 * sigma**2) - lost - N * marginal,
            "The Gaussian normaliser counts one pixel; there are P of them.": (
                -error.mean() / (2 * sigma**2) - constant / pixels - lost - N * marginal
            ),
            "The squared error was divided by the number of pixels: that is a mean, and the normaliser a sum.": (
                -error.mean() / (2 * sigma**2 * pixels) - constant - lost - N * marginal
            ),
            "sigma_x stands where its square, the variance, belongs.": (
                -error.mean() / (2 * sigma) - pixels / 2 * math.log(2 * math.pi * sigma) - lost - N * marginal
            ),
            "The code term has the wrong sign: a divergence is a price.": fit - lost + N * marginal,
            "The prior is forgotten: this is the entropy of the aggregate, not its divergence from "
            "log_prior.": fit - lost + N * entropy,
            "The prior is taken to be uniform; it came as log_prior.": fit
            - lost
            - N * (math.log(K) - entropy),
            "This is the sum over the batch: average over its pictures.": B * right,
            "This is the loss, minus the objective: return the objective, which is to be made large.": -right,
        }
        _explained(value, right, slips)
        expect_close(value, right, name="the objective", rtol=1e-4, atol=1e-3)
    _expect_steady(answer, rng)
    return "one divergence, of the mean; in nats for a picture; finite for any logits."


def _expect_steady(answer: Answer, rng: torch.Generator) -> None:
    """Fail unless value and gradient are finite and right where the probabilities underflow."""
    logits = 200 * torch.eye(4)[torch.tensor([[0, 1], [1, 1], [0, 0]])]  # codes 3 and 4 have no chance at all
    logits = (logits + torch.randn(3, 2, 4, generator=rng)).requires_grad_()
    log_prior = torch.full((4,), 0.25).log()
    value = answer(torch.zeros(3), torch.zeros(3, 2), logits, log_prior, (2 * math.pi) ** -0.5, 10)
    hint = (
        "With logits 200 apart a probability is zero in float32, and 0 log 0 is not a number. Stay with logarithms: "
        "log_softmax, then logsumexp over the batch."
    )
    if not torch.isfinite(value):
        fail(f"the objective is not finite. {hint}")
    expect_close(value, -2 * math.log(2), "Two codes in even use, of four.", name="the objective", atol=1e-3)
    (g,) = torch.autograd.grad(value, logits, allow_unused=True)
    if g is None:
        fail("no gradient reaches the logits.")
    if not g.isfinite().all():
        fail(f"the gradient is not finite. {hint}")


@check("ex-batch-bias", takes="q, images")
def batch_bias(answer: Answer, rng: torch.Generator) -> str:
    """First order of the bias for whole images and for as many shuffled positions."""
    for n, N, K, images in ((6, 4, 5, 3), (9, 5, 7, 16)):
        style = torch.randn(n, 1, K, generator=rng)  # what the positions of an image share
        logits = 1.5 * style + torch.randn(n, N, K, generator=rng)
        logits[..., -1] = -torch.inf  # a dead code
        q = logits.double().softmax(-1)
        pair = answer(q, images)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            fail("two numbers are asked for: the bias for whole images, and for as many shuffled positions.")
        value = torch.stack([torch.as_tensor(p, dtype=torch.float64).detach() for p in pair])
        expect_shape(value, (2,), "the pair")
        if not value.isfinite().all():
            fail(
                "a dead code gives 0 / 0: where the aggregate is zero so is the variance, and the summand is to be 0."
            )
        mean, of_image = q.mean((0, 1)), q.mean(1)
        live = mean > 0

        def order(variance: Tensor, size: float, mean: Tensor = mean, live: Tensor = live) -> Tensor:
            return (variance[live] / mean[live]).sum() / (2 * size)

        by_image, by_position = of_image.var(0, correction=0), q.flatten(0, 1).var(0, correction=0)
        right = torch.stack([order(by_image, images), order(by_position, images * N)])
        M = images * N
        every = by_position.sum() / (2 * M)
        slips = {
            "The two are in the other order: whole images first.": right.flip(0),
            "The window is wrong for whole images: their rows are the images' own means, and there are as many of "
            "them as images, not as positions.": torch.stack([order(by_image, M), right[1]]),
            "Whole images were treated as independent positions: average q over the positions of an image first, and "
            "take the variance over images.": torch.stack([right[1], right[1]]),
            "The window is wrong for positions: a batch has images times N of them.": torch.stack(
                [right[0], order(by_position, images)]
            ),
            "This is (K - 1) / 2M, which holds for certain rows; these hesitate, so use their "
            "variance.": torch.tensor([(K - 1) / (2 * images), (K - 1) / (2 * M)], dtype=torch.float64),
            "(K - 1) / 2M is for certain rows, and counts the dead code as well; use the variance of the "
            "rows.": torch.tensor([(K - 1) / (2 * M), (K - 1) / (2 * M)], dtype=torch.float64),
            "The half of the Taylor expansion is missing.": 2 * right,
            "The variance is not divided by the aggregate.": torch.stack(
                [by_image.sum() / (2 * images), every]
            ),
            "The variance is divided by the uniform prior; it is the aggregate that the expansion is around.": (
                torch.stack([by_image.sum() * K / (2 * images), every * K])
            ),
            "Standard deviations stand where variances belong.": torch.stack(
                [order(by_image.sqrt(), images), order(by_position.sqrt(), M)]
            ),
            "This is the sample variance, with n - 1; the n rows are all the data there are here: "
            "correction=0.": torch.stack(
                [
                    order(of_image.var(0), images),
                    order(q.flatten(0, 1).var(0), M),
                ]
            ),
            "The variance was taken over the positions inside an image; it is the images that differ from batch to "
            "batch.": torch.stack([order(q.var(1, correction=0).mean(0), images), right[1]]),
        }
        _explained(value, right, slips)
        expect_close(value, right, name="the pair", rtol=1e-4, atol=1e-7)
    return "variance over what is drawn independently, images or positions, over the aggregate."


@check("ex-entropy-swap", takes="batches")
def usage(answer: Answer, rng: torch.Generator) -> str:
    """(mean entropy - entropy of the mean, perplexity of the mean), over all rows of all batches together."""
    for sizes, K in (((8, 8, 4), 5), ((3, 12), 7)):
        batches = [
            (2 * torch.randn(K, generator=rng) + 2 * torch.randn(M, K, generator=rng)).log_softmax(-1)
            for M in sizes
        ]
        pair = answer(batches)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            fail("two numbers are asked for: the penalty and the perplexity.")
        value = torch.stack([torch.as_tensor(p).detach().double() for p in pair])
        expect_shape(value, (2,), "the pair")

        def entropies(log_q: Tensor) -> tuple[Tensor, Tensor]:  # of the mean, and the mean of them
            q = log_q.double().exp()
            return torch.special.entr(q.mean(0)).sum(), torch.special.entr(q).sum(-1).mean()

        of_mean, mean_of = entropies(torch.cat(batches))
        penalty, right = mean_of - of_mean, of_mean.exp()
        each = [entropies(log_q) for log_q in batches]
        in_batches = torch.stack([b - a for a, b in each]).mean()
        p_batches = torch.stack([a.exp() for a, _ in each]).mean()
        h_batches = torch.stack([a for a, _ in each]).mean().exp()
        given = torch.stack([b.exp() for _, b in each]).mean()
        means = torch.stack([log_q.double().exp().mean(0) for log_q in batches]).mean(0)
        mean_entropy = torch.special.entr(means).sum()
        slips = {
            "Still swapped: the penalty rewards posteriors that are all alike. Lower is better, so the mean of the "
            "entropies has the plus sign.": torch.stack([-penalty, right]),
            "Both are still swapped: the first number rewards posteriors that are all alike, and the second is the "
            "perplexity of one position.": torch.stack([-penalty, mean_of.exp()]),
            "The perplexity is still that of one position, exp of the mean entropy: it is largest when every posterior "
            "is uniform and no code says anything.": torch.stack([penalty, mean_of.exp()]),
            "The perplexity's window is a batch: average the posteriors over all batches first, and take one "
            "entropy.": torch.stack([penalty, p_batches]),
            "The perplexity's window is a batch: the entropies of batches were averaged.": torch.stack(
                [penalty, h_batches]
            ),
            "The window is a batch for both numbers: a batch's entropy is too low. Put all rows "
            "together.": torch.stack([in_batches, p_batches]),
            "The penalty's window is a batch: put all rows together.": torch.stack([in_batches, right]),
            "Swapped, and measured in batches: this is the given code.": torch.stack([-in_batches, given]),
            "Each batch counts the same, whatever its size: it is rows that count.": torch.stack(
                [torch.stack([b for _, b in each]).mean() - mean_entropy, mean_entropy.exp()]
            ),
            "This is 2 to the power of nats: nats want exp.": torch.stack([penalty, 2**of_mean]),
            "The second number is an entropy: its exponential is asked for.": torch.stack([penalty, of_mean]),
        }
        _explained(value, torch.stack([penalty, right]), slips)
        expect_close(value, torch.stack([penalty, right]), name="the pair", rtol=1e-3, atol=1e-4)
    return "the entropy of the mean is rewarded, the mean of the entropies charged, over one window."

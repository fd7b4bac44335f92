"""Checks of chapter 8, GM-VQ measured: reductions, entropies and windows, bits, and what a comparison holds fixed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vqbook.checks import check, describe, expect_close, fail
from vqbook.vqvae import VQVAE

Answer = Callable[..., Any]


def _number(value: Any, what: str) -> float:
    """A finite scalar as a float; fails otherwise."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            fail(f"{what} should be one number, got shape {tuple(value.shape)}.")
        value = value.detach().item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(f"{what} should be a number, got {describe(value)}.")
    if not math.isfinite(value):
        fail(f"{what} is {value}; it should be finite.")
    return float(value)


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7)


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def _explained(arrived: float, right: float, slips: dict[str, float]) -> None:
    """Fail with the first slip whose value is the one that arrived, unless that is the right one."""
    for message, wrong in slips.items():
        if _near(arrived, wrong) and not _near(arrived, right):
            fail(message)


@check("ex-gv-objective", takes="x, x_hat, log_q, sq_dist, beta, gamma")
def objective(answer: Answer, rng: torch.Generator) -> str:
    """A scalar: mean squared error + N / P (gamma E_q d + beta KL(batch mean of q || uniform))."""
    for B, side, K, beta, gamma in ((3, 4, 6, 7.0, 3.0), (5, 2, 9, 9.0, 0.0), (4, 4, 5, 0.0, 5.0)):
        x = torch.rand(B, 3, 4 * side, 4 * side, generator=rng)
        x_hat = x + 0.2 * torch.randn(x.shape, generator=rng)
        sq_dist = 3 * torch.rand(B, side, side, K, generator=rng)
        log_q = (2 * torch.randn(B, side, side, K, generator=rng)).log_softmax(-1)
        N, P = side * side, x[0].numel()
        q, sq_error = log_q.exp(), (x - x_hat).square()
        mean = q.reshape(-1, K).mean(0)
        pull = (q * sq_dist).sum(-1).mean().item()
        each = math.log(K) + (q * log_q).sum(-1).mean().item()
        aggregate = math.log(K) + (mean * mean.log()).sum().item()
        by_image = q.reshape(B, -1, K).mean(1)
        in_image = math.log(K) + (by_image * by_image.log()).sum(-1).mean().item()
        nearest = sq_dist.gather(-1, log_q.argmax(-1, keepdim=True)).mean().item()
        mse, image = sq_error.mean().item(), sq_error.sum((1, 2, 3)).mean().item()
        right = mse + N / P * (gamma * pull + beta * aggregate)
        found = answer(x, x_hat, log_q.requires_grad_(), sq_dist, beta, gamma)
        value = _number(found, "the loss")
        both = gamma * pull + beta * aggregate
        slips = {
            "The reductions are mixed: the error is a mean over pixels and channels, so the other terms take the "
            "factor N / P.": mse + both,
            "The reductions are mixed: the bracket is divided by P as well, but an image has N positions. The factor "
            "is N / P.": mse + both / P,
            "This is the objective of an image, its error summed. The convention divides all of it by P, pixels "
            "times channels.": image + N * both,
            "The error is summed over the image and the other terms are not summed over positions: the reductions "
            "are mixed.": image + both,
            "The error is summed over the batch, too.": sq_error.sum().item() + N * both,
            "The other terms are summed over positions, but the error is a mean over pixels.": mse + N * both,
        }
        if beta:
            slips |= {
                "The mean of the entropies stands where the entropy of the mean belongs: this is the ELBO's code term. "
                "Average q over all positions of the batch first.": mse
                + N / P * (gamma * pull + beta * each),
                "Each image has its own aggregate here; the batch has one, over all its positions.": mse
                + N / P * (gamma * pull + beta * in_image),
                "log K is missing: this is minus the entropy, not the divergence from the uniform prior. Its gradient "
                "is the same, its value is not a KL.": mse
                + N / P * (gamma * pull + beta * (aggregate - math.log(K))),
                "The entropy is rewarded with the wrong sign: an even use of codes should make the loss "
                "smaller.": mse + N / P * (gamma * pull - beta * aggregate),
            }
        if gamma:
            slips |= {
                "The pull counts the likeliest code alone; it is the expectation over q.": mse
                + N / P * (gamma * nearest + beta * aggregate),
                "The pull is averaged over the codes as if all were equally likely; weight them with q.": mse
                + N / P * (gamma * sq_dist.mean().item() + beta * aggregate),
            }
        _explained(value, right, slips)
        expect_close(torch.tensor(value), torch.tensor(right), name="the loss")
        if beta and not (isinstance(found, Tensor) and found.requires_grad):
            fail("no gradient reaches log_q: compute with tensors, without .item() or .detach().")
    return "one mean over pixels, one expectation over codes, one divergence of the batch, at N / P."


@check("ex-gv-numbers", takes="batches")
def numbers(answer: Answer, rng: torch.Generator) -> str:
    """(mean of H(c | x), H of the mean, perplexity of the likeliest codes), over all batches together."""
    for sizes, K in (((5, 5, 2), 12), ((4, 1), 7)):
        batches = []
        for i, size in enumerate(sizes):  # each batch likes other codes, as batches of images do
            taste = 2.5 * torch.randn(K, generator=rng) + 2 * i
            batches.append((taste + 1.5 * torch.randn(size, 2, 2, K, generator=rng)).log_softmax(-1))
        rows = [b.reshape(-1, K).double() for b in batches]
        every = torch.cat(rows)

        def used(log_q: Tensor, K: int = K) -> float:
            share = torch.bincount(log_q.argmax(-1), minlength=K).double() / len(log_q)
            return _entropy(share).exp().item()

        def across(log_q: Tensor) -> float:
            return _entropy(log_q.exp().mean(0)).item()

        def within(log_q: Tensor) -> float:
            return _entropy(log_q.exp()).mean().item()

        right = (within(every), across(every), used(every))
        found = answer([b.clone() for b in batches])
        if not isinstance(found, tuple | list) or len(found) != 3:
            fail(f"expected three numbers, got {describe(found)}.")
        names = ("the first", "the second", "the third")
        found = [_number(value, name) for value, name in zip(found, names, strict=True)]
        if _near(found[0], right[1]) and _near(found[1], right[0]):
            fail(
                "the entropies are swapped: the first is the mean of the entropies, the second the entropy of the mean."
            )
        mean = {f: sum(map(f, rows)) / len(rows) for f in (within, across, used)}
        slips = (
            {
                "The first should be the mean over all positions; batches of different size do not count alike.": mean[
                    within
                ],
                "The entropy is in bits; the book counts in nats.": right[0] / math.log(2),
                "The first is the entropy of the mean; average the entropies of the positions.": right[1],
            },
            {
                "The entropy of the mean was taken in each batch and then averaged. The window is all positions: "
                "average q over all of them first.": mean[across],
                "The entropy is in bits; the book counts in nats.": right[1] / math.log(2),
                "The second is the mean of the entropies; average the posteriors first.": right[0],
                "The second is the entropy of the likeliest codes; use the posteriors themselves.": math.log(
                    right[2]
                ),
            },
            {
                "The perplexity was taken in each batch and then averaged: a small window cannot show more codes than "
                "it has positions. Count all positions together.": mean[used],
                "The third is exp of the entropy of the mean posterior. Perplexity counts the codes that are used at "
                "test time, the likeliest.": math.exp(right[1]),
                "The third is an entropy; perplexity is its exponential.": math.log(right[2]),
                "The third is the number of codes in use; perplexity weighs them by how often.": float(
                    every.argmax(-1).unique().numel()
                ),
            },
        )
        for value, true, wrong in zip(found, right, slips, strict=True):
            _explained(value, true, wrong)
        for value, true, name in zip(found, right, names, strict=True):
            expect_close(torch.tensor(value), torch.tensor(true), name=name)
    return "two entropies and a perplexity, each over all positions."


@check("ex-gv-bits", takes="mse, code_nats, positions, numbers, width")
def bits(answer: Answer, rng: torch.Generator) -> str:
    """Bits for each number: codes, plus a Gaussian residual of variance mse read off in steps of `width`."""
    for _ in range(4):
        u = torch.rand(4, generator=rng).tolist()
        mse, nats = 10 ** (-3 + 2 * u[0]), 1 + 5 * u[1]
        positions, numbers = int(16 + 100 * u[2]), int(1_000 + 3_000 * u[3])
        width = 1 / 255
        codes = positions * nats / numbers
        residual = 0.5 * math.log(2 * math.pi * math.e * mse)
        right = (codes + residual - math.log(width)) / math.log(2)
        value = _number(answer(mse, nats, positions, numbers, width), "the result")
        two = math.log(2)
        _explained(
            value,
            right,
            {
                "The steps are missing: a density is not a probability. A number is known to within `width`, which "
                "costs -log width.": (codes + residual) / two,
                "The width has the wrong sign: finer steps cost more.": (codes + residual + math.log(width))
                / two,
                "This is in nats; divide by log 2.": codes + residual - math.log(width),
                "The codes are in nats and the rest in bits: divide both by log 2.": codes
                + (residual - math.log(width)) / two,
                "The codes of the whole image were added to the bits of one number: divide by `numbers`.": (
                    positions * nats + residual - math.log(width)
                )
                / two,
                "An image has `positions` codes, not one.": (nats / numbers + residual - math.log(width))
                / two,
                "The e is missing: that is the log of the density at its peak. On average the residual costs half a "
                "nat more.": (codes + 0.5 * math.log(2 * math.pi * mse) - math.log(width)) / two,
                "mse is the variance already; its logarithm takes the factor one half.": (
                    codes + 0.5 * math.log(2 * math.pi * math.e) + math.log(mse) - math.log(width)
                )
                / two,
                "This is 1 / 256 although the steps are `width`.": (codes + residual + math.log(256)) / two,
                "The residual is missing: the codes alone do not give back the image.": codes / two,
                "The codes are missing: the residual alone does not give back the image.": (
                    residual - math.log(width)
                )
                / two,
            },
        )
        if not _near(value, right):
            fail(f"for mse {mse:.4f} and {nats:.2f} nats a code, expected {right:.4f} bits, got {value:.4f}.")
        twice = _number(answer(4 * mse, nats, positions, numbers, 2 * width), "the result")
        if not _near(twice, right):
            fail("pixels in [-1, 1] have four times the error and twice the width: the bits must not change.")
    return "codes and residual in bits, the same for every scale of the pixels."


@check("ex-gv-accumulate", takes="micro_batches, log_prior")
def accumulated(answer: Answer, rng: torch.Generator) -> str:
    """KL of the mean posterior of all micro-batches, whatever their sizes, from the prior; differentiable."""
    for sizes, K in (((8, 8, 3), 6), ((4, 9), 5), ((1, 1, 1, 2), 4)):
        prior = torch.randn(K, generator=rng).log_softmax(-1)
        parts = [(torch.randn(K, generator=rng) + 2 * torch.randn(n, K, generator=rng)) for n in sizes]
        parts = [part.log_softmax(-1).requires_grad_() for part in parts]
        q = torch.cat([part.detach() for part in parts]).exp()
        means = torch.stack([part.detach().exp().mean(0) for part in parts])

        def kl(p: Tensor, prior: Tensor = prior) -> Tensor:
            return (p * (p.log() - prior)).sum(-1)

        right = kl(q.mean(0)).item()
        found = answer(list(parts), prior)
        value = _number(found, "the term")
        weights = torch.tensor([float(n) for n in sizes])
        slips = {
            "This is the mean of the micro-batches' divergences: each has an aggregate of its own, as in the report. "
            "Average the posteriors of all of them first.": kl(means).mean().item(),
            "The divergences are weighted by size now, but there is still one aggregate for each micro-batch.": (
                (weights * kl(means)).sum() / weights.sum()
            ).item(),
            "A small micro-batch counts as much as a large one: the aggregate is the mean over positions.": kl(
                means.mean(0)
            ).item(),
            "This is the mean over positions of KL(q || p), the ELBO's term.": kl(q).mean().item(),
            "This is minus the entropy of the aggregate; the prior is missing.": (
                -_entropy(q.mean(0)).item()
            ),
            "This is the aggregate's entropy: the sign is turned and the prior is missing.": (
                _entropy(q.mean(0)).item()
            ),
            "You averaged logarithms: normalised again they make a geometric mean. The aggregate is the mean of the "
            "probabilities.": kl(q.log().mean(0).softmax(-1)).item(),
            "The posteriors were added up and not divided by the number of positions.": kl(q.sum(0)).item(),
        }
        _explained(value, right, slips)
        expect_close(torch.tensor(value), torch.tensor(right), name="the term")
        if not (isinstance(found, Tensor) and found.requires_grad):
            fail("no gradient reaches the posteriors: compute with tensors, without .item() or .detach().")
        reached = torch.autograd.grad(found, parts, allow_unused=True)
        if any(gradient is None for gradient in reached):
            fail("the gradient does not reach every micro-batch: each is part of the aggregate.")
    return "one aggregate over all positions, however they arrive."


def _weights(part: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in part.parameters()])


@check("ex-gv-decoders", takes="makers, seed")
def decoders(answer: Answer, rng: torch.Generator) -> str:
    """{name: VQVAE}: one quantizer each, and encoders and decoders that start alike but are not shared."""
    from vqbook.quantizers import GaussianMixtureQuantizer, SQVAEQuantizer, VectorQuantizer

    makers = {
        "VQ": lambda dim: VectorQuantizer(16, dim),
        "SQ-VAE": lambda dim: SQVAEQuantizer(24, dim),
        "GM-VQ": lambda dim: GaussianMixtureQuantizer(32, dim),
    }
    seed = int(torch.randint(1_000, (), generator=rng))
    models = answer(dict(makers), seed)
    if not isinstance(models, dict) or set(models) != set(makers):
        fail(f"expected a model for each of {', '.join(makers)}, got {describe(models)}.")
    for name, model in models.items():
        if not isinstance(model, VQVAE) or type(model.quantizer) is not type(makers[name](4)):
            fail(f"{name} should be a VQVAE with the quantizer that its maker makes.")
    first, *others = models.values()
    for model in others:
        for part in ("encoder", "decoder"):
            one, other = getattr(first, part), getattr(model, part)
            if one is other or any(
                a is b for a, b in zip(one.parameters(), other.parameters(), strict=False)
            ):
                fail(
                    f"the {part} is one and the same module in two rows: training one row would train the other. "
                    "Same weights at the start, not the same module."
                )
            if [p.shape for p in one.parameters()] != [p.shape for p in other.parameters()]:
                fail(f"the {part}s are not even of one size.")
    for part in ("encoder", "decoder"):
        for model in others:
            if not torch.equal(_weights(getattr(first, part)), _weights(getattr(model, part))):
                fail(
                    f"the {part}s start with different weights. What draws from the random stream before them, and "
                    "how much, depends on the row: seed anew for each row, and let the quantizer draw last."
                )
    again = answer(dict(makers), seed + 1)
    if torch.equal(_weights(again["VQ"].decoder), _weights(models["VQ"].decoder)):
        fail("another seed gives the same decoder: the seed is not used.")
    turned = answer(dict(reversed(makers.items())), seed)
    for name in makers:
        if not torch.equal(_weights(turned[name].quantizer), _weights(models[name].quantizer)):
            fail(
                f"{name} starts with other codes when the rows are built in another order: a row should not depend on "
                "its neighbours. Seed anew for each row."
            )
        if not all(p.requires_grad for p in models[name].parameters()):
            fail("some weights are frozen: each row trains all of its own.")
    return "rows differ in their quantizer and in nothing else."

"""Checks of chapter 1, Why discrete?

Each compares with the definition on random inputs; where an answer differs, it is held against the values that
the usual mistakes would give, so that the message can name the mistake.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqbook.checks import check, describe, expect_close, expect_shape, fail

Mistakes = dict[str, Tensor | float]


def _number(value: Any, name: str) -> Tensor:
    """Take one number, of torch, NumPy or Python, as float64 without a shape."""
    if isinstance(value, bool) or not isinstance(value, Tensor | np.ndarray | np.number | int | float):
        fail(f"{name} should be one number; {describe(value)} arrived.")
    number = torch.as_tensor(value).detach().to("cpu", torch.float64)
    if number.numel() != 1:
        fail(f"{name} should be one number; {describe(value)} arrived.")
    return number.reshape(())


def _compare(value: Tensor, expected: Tensor | float, mistakes: Mistakes, name: str) -> None:
    """Fail unless the number is right, with the first mistake that explains it."""
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    if torch.isclose(value, wanted, rtol=1e-4, atol=1e-5):
        return
    for message, wrong in mistakes.items():
        if torch.isclose(value, torch.as_tensor(wrong, dtype=torch.float64), rtol=1e-4, atol=1e-5):
            fail(
                f"{message} {name[0].upper()}{name[1:]} is {value.item():.5g}; expected {wanted.item():.5g}."
            )
    expect_close(value, wanted, name=name)


def _plogp(p: Tensor) -> Tensor:
    return torch.special.entr(p.double()).sum()


def _entropy(counts: Tensor) -> Tensor:
    return _plogp(counts.double() / counts.sum())


@check("ex-perplexity")
def perplexity_from_counts(answer: Callable[..., Any], rng: torch.Generator) -> str:
    """Perplexities of counts (B, K), some of them zero, rows of different totals."""
    windows = torch.randint(2, 40, (3, 12), generator=rng) * torch.tensor([[1], [3], [1]])
    windows[0, torch.randperm(12, generator=rng)[:3]] = 0
    values = answer(windows)
    expect_shape(values, (3,), "the perplexities, one for each window")
    pooled, total = _entropy(windows.sum(0)).exp(), windows.sum()
    for counts, value in zip(windows, values.detach().double(), strict=True):
        zeros = bool((counts == 0).any())
        where = "with codes that never occur, the perplexity" if zeros else "the perplexity"
        if not torch.isfinite(value) and zeros:
            fail(
                "A code that never occurs gives 0 · log 0, which is NaN: leave the zero counts out of the sum."
            )
        h, used = _entropy(counts), counts[counts > 0].double()
        mistakes: Mistakes = {
            "The power is base e and the logarithm base 2: use one base for both.": (h / math.log(2)).exp(),
            "The power is base 2 and the logarithm natural: use one base for both.": 2**h,
            "This is the entropy; the perplexity is its exponential.": h,
            "This is the entropy in bits; the perplexity is 2 to that power.": h / math.log(2),
            "The sign of the exponent is wrong: the entropy is minus the sum.": (-h).exp(),
            "The windows were added up: each has a perplexity of its own.": pooled,
            "The counts were divided by the total of all windows: divide each row by its own.": _plogp(
                used / total
            ).exp(),
            "The counts were not divided by their total: the sum needs frequencies.": _plogp(used).exp(),
            "These are the codes that occur at least once (active codes); a rare code should count for less.": len(
                used
            ),
            "This is the number of codes, whatever their usage.": len(counts),
            "An average over codes was taken: the entropy is the sum of -p log p.": (h / len(counts)).exp(),
            "A mean was taken over the codes in use: the entropy is the sum of -p log p.": (
                h / len(used)
            ).exp(),
            "The counts were divided by their maximum: divide by their total.": _plogp(
                used / used.max()
            ).exp(),
            "This is one over the sum of squares (inverse Simpson), another count of codes: take the "
            "exponential of the entropy.": 1 / (used / used.sum()).square().sum(),
            "Counts of zero were raised to one: a code that never occurs leaves the sum.": _entropy(
                counts.clamp_min(1)
            ).exp(),
            "One was added to the counts: smoothing makes codes that never occur count.": _entropy(
                counts + 1
            ).exp(),
        }
        _compare(value, h.exp(), mistakes, where)
    only = answer(torch.tensor([[0, 9, 0]]))
    expect_close(only, torch.ones(1), name="the perplexity when one code takes everything")
    return "evenly used codes count fully, rare ones less, absent ones not at all."


@check("ex-point")
def rate_distortion_point(answer: Callable[..., Any], rng: torch.Generator) -> str:
    """Bits and squared error for each coordinate, with a code that nobody chooses."""
    dim, num_codes = 5, 7
    x = torch.randn(60, dim, generator=rng)
    codebook = torch.randn(num_codes, dim, generator=rng)
    codebook[2] += 100.0  # dead: nobody is near
    value = answer(x, codebook)
    pair = isinstance(value, tuple | list) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 1)
    if not pair or len(value) != 2:
        fail(f"return two numbers, (bits, squared error); {describe(value)} arrived.")
    bits, error = _number(value[0], "the rate"), _number(value[1], "the distortion")

    table = (x[:, None] - codebook).double().square().sum(-1)  # (N, K)
    near, far = table.argmin(1), table.argmax(1)
    h = _entropy(torch.bincount(near, minlength=num_codes))
    total = table.min(1).values
    mse = total.mean() / dim
    h_bits = h / math.log(2)
    if torch.allclose(torch.stack([bits, error]), torch.stack([mse, h_bits / dim]), rtol=1e-4):
        fail("The two numbers are swapped: first the rate, then the squared error.")
    mistakes: Mistakes = {
        "The minimum runs over the vectors: each vector chooses a code (dimension 1), not each code a "
        "vector.": table.min(0).values.mean() / dim,
        "The codes are the farthest ones: take argmin of the distances, not argmax.": table.max(
            1
        ).values.mean()
        / dim,
        "This is the error of a whole vector: divide by the number of coordinates D.": total.mean(),
        "This is a sum over all vectors and coordinates: take the mean.": total.sum(),
        "This is a sum over vectors: take the mean over them.": total.sum() / dim,
        "A root was taken: the distortion is the squared distance.": mse.sqrt(),
        "This is the mean distance, not the mean squared distance.": total.sqrt().mean() / dim,
        "The error was averaged over all codes: only the chosen one counts.": table.mean() / dim,
    }
    _compare(error, mse, mistakes, "the distortion")
    if not torch.isfinite(bits):
        fail("One code is never chosen and gives 0 · log 0, which is NaN: leave it out of the sum.")
    mistakes = {
        "This is the perplexity: the rate is the entropy itself, in bits.": h.exp(),
        "This is the perplexity divided by D: the rate is the entropy, in bits, divided by D.": h.exp() / dim,
        "The entropy was divided by the number of codes: divide by the coordinates D.": h_bits / num_codes,
        "These are the bits of all vectors together: the entropy is for one vector, divide it by D.": h_bits
        * len(x),
        "These are the bits of all vectors together, divided by D: leave out the number of vectors.": h_bits
        * len(x)
        / dim,
        "This is log2 K, the price of fixed names: the rate asked for is the entropy of the codes.": math.log2(
            num_codes
        )
        / dim,
        "This is the fixed price of a whole vector: take the entropy, and divide by D.": math.log2(num_codes),
        "The logarithm is natural, so this is in nats: use log2.": h / dim,
        "These are bits of a whole vector: divide by the number of coordinates D.": h_bits,
        "These are nats of a whole vector: use log2 and divide by D.": h,
        "The entropy was divided by the number of vectors: divide by the coordinates D.": h_bits / len(x),
        "The codes are the farthest ones: take argmin of the distances.": _entropy(torch.bincount(far))
        / math.log(2)
        / dim,
    }
    _compare(bits, h_bits / dim, mistakes, "the rate")
    return "rate and distortion are right, in units of one coordinate."


@check("ex-centroid")
def update_centroids(answer: Callable[..., Any], rng: torch.Generator) -> str:
    """Means of the cells, one of a single point and one that sums to zero; empty cells keep their code."""
    x = torch.randn(40, 3, generator=rng) + 2.0
    x[-1] = -x[-2]
    codebook = torch.randn(8, 3, generator=rng)
    codes = torch.tensor([0, 1, 3, 4])[torch.randint(4, (40,), generator=rng)]  # cells 2 and 7 are empty
    codes[:4] = torch.tensor([0, 1, 3, 4])
    codes[-3:] = torch.tensor([5, 6, 6])
    try:
        value = answer(x, codes, codebook)
    except RuntimeError:
        everybody = codes.clone()
        everybody[4:6] = torch.tensor([2, 7])
        answer(x, everybody, codebook)  # raises again unless an empty last cell was the reason
        fail(
            "It fails when the last cell is empty: the counts then have fewer entries than the codebook. "
            "Give bincount its minlength."
        )
    if isinstance(value, Tensor) and value.shape == codebook.T.shape:
        fail(f"the new codebook is transposed: {describe(value)} arrived, one row for each code is expected.")
    if isinstance(value, Tensor) and value.ndim == 2 and value.shape[0] != len(codebook):
        fail(
            f"{len(value)} codes came back and the codebook has {len(codebook)}: empty cells count as well, "
            "also the last one (minlength)."
        )
    expect_shape(value, codebook.shape, "the new codebook")
    onehot = torch.nn.functional.one_hot(codes, 8).double()  # (N, K)
    counts = onehot.sum(0)[:, None]
    full, sums = counts[:, 0] > 0, onehot.T @ x.double()
    means = sums[full] / counts[full]
    found = value.detach().double()[full]
    for message, wrong in {
        "The sums were not divided: each code is the mean of its points, not their sum.": sums[full],
        "The sums were divided by the number of all points: divide each by the points of its own cell.": sums[
            full
        ]
        / len(x),
        "The divisor is one too large, which draws every code towards the origin: divide by the count.": sums[
            full
        ]
        / (counts[full] + 1),
        "The sums were started from the old codebook: start from zeros.": (sums[full] + codebook[full])
        / counts[full],
        "The codes did not move at all: a code with points goes to their mean.": codebook[full].double(),
        "Each code stopped half-way: the centroid step goes all the way to the mean.": (
            means + codebook[full]
        )
        / 2,
    }.items():
        if torch.allclose(found, wrong, rtol=1e-4, atol=1e-5):
            fail(message)
    stayed = (value.detach() == codebook).all(1)
    if stayed[5]:
        fail("A cell with a single point is not empty: its code moves to that point.")
    if stayed[6]:
        fail(
            "One cell has points that add up to zero, and its code stayed: ask the counts, not the sums, "
            "whether a cell is empty."
        )
    expect_close(found, means, name="the part of the codebook with points")
    empty, before = value.detach()[~full], codebook[~full]
    if not torch.isfinite(empty).all():
        fail(
            "An empty cell divides 0 by 0 and its code becomes NaN: a code without points stays where it was."
        )
    if not empty.any():
        fail(
            "The codes of empty cells went to the origin: clamping the count avoids NaN, "
            "yet the code should stay where it was."
        )
    expect_close(empty, before, "A code without points has to stay where it was.", name="Its position")
    return "cells with points have their mean, and nobody's code stays."


@check("ex-59")
def pooled_perplexity(answer: Callable[..., Any], rng: torch.Generator) -> str:
    """Perplexity over an epoch whose batches differ in length and in content."""
    num_codes = 50
    kinds = ((64, 24), (48, 20), (120, 36), (16, 12), (80, 16))  # (tokens, codes in use) of each batch
    batches = [torch.randint(3 * i, 3 * i + used, (n,), generator=rng) for i, (n, used) in enumerate(kinds)]
    value = _number(answer(batches, num_codes), "the perplexity")
    counts = torch.stack([torch.bincount(b, minlength=num_codes) for b in batches]).double()  # (batches, K)
    entropies = torch.stack([_entropy(c) for c in counts])
    pooled = counts.sum(0)
    sizes = counts.sum(1) / counts.sum()
    mistakes: Mistakes = {
        "This is the mean of the batches' perplexities: add up the counts first.": entropies.exp().mean(),
        "This is the exponential of the batches' mean entropy: add up the counts first.": entropies.mean().exp(),
        "This is the sum of the batches' perplexities: add up the counts first.": entropies.exp().sum(),
        "This is the largest perplexity of any batch: add up the counts first.": entropies.exp().max(),
        "This is the mean of the perplexities, weighted by the length of the batches: no mean of them shows more "
        "codes than a batch has; add up the counts first.": (sizes * entropies.exp()).sum(),
        "This is the exponential of the mean entropy, weighted by the length of the batches: add up the counts "
        "first.": (sizes * entropies).sum().exp(),
        "The last batch is missing.": _entropy(counts[:-1].sum(0)).exp(),
        "The first batch is missing.": _entropy(counts[1:].sum(0)).exp(),
        "This is the number of codes, whatever their usage.": num_codes,
        "A correction for the window was added: return the perplexity of the pooled counts as it is.": (
            _entropy(pooled) + ((pooled > 0).sum() - 1) / (2 * pooled.sum())
        ).exp(),
        "A correction for the window was added, with all K codes: return the perplexity of the pooled counts as "
        "it is.": (_entropy(pooled) + (num_codes - 1) / (2 * pooled.sum())).exp(),
        "Only the last batch was counted.": entropies[-1].exp(),
        "Only the first batch was counted.": entropies[0].exp(),
        "Each batch's frequencies got the same weight although batches differ in length: add up counts.": _entropy(
            (counts / counts.sum(1, keepdim=True)).mean(0)
        ).exp(),
        "These are the codes that occur at all (active codes), not the perplexity.": (pooled > 0).sum(),
        "This is the entropy; the perplexity is its exponential.": _entropy(pooled),
    }
    if not torch.isfinite(value):
        fail("Some codes never occur: 0 · log 0 is NaN. Leave the zero counts out of the sum.")
    _compare(value, _entropy(pooled).exp(), mistakes, "the perplexity of the epoch")
    return "all tokens of the epoch are counted together."


@check("ex-window")
def expected_entropy(answer: Callable[..., Any], rng: torch.Generator) -> str:
    """The exact mean against a full enumeration of all windows of four tokens."""
    p = torch.rand(3, generator=rng, dtype=torch.float64) + 0.2
    p = p / p.sum()
    tokens = 4
    windows = torch.cartesian_prod(*[torch.arange(3)] * tokens)  # (81, 4)
    frequencies = torch.nn.functional.one_hot(windows, 3).double().mean(1)  # (81, 3)
    exact = (p[windows].prod(1) * torch.special.entr(frequencies).sum(1)).sum()
    h = torch.special.entr(p).sum()
    value = _number(answer(p, tokens), "the mean entropy")
    if not torch.isfinite(value):
        fail(
            "The result is NaN: a count of zero gives 0 · log 0. It adds nothing, so let the counts start at one."
        )
    j = torch.arange(1, tokens + 1, dtype=torch.float64)[:, None]
    nochoose = p**j * (1 - p) ** (tokens - j)
    f = j / tokens
    choose = torch.tensor([math.comb(tokens, i) for i in range(1, tokens + 1)]).double()[:, None]
    chance = choose * nochoose  # (N, K)
    third = torch.tensor(1 / 3, dtype=torch.float64)
    even = choose * third**j * (1 - third) ** (tokens - j)
    mistakes: Mistakes = {
        "The logarithm of the chance stands where the chance should be: take exp of log_prob.": -(
            chance.log() * f * f.log()
        ).sum(),
        "The counts were not divided by the number of tokens: f = j/N.": -(chance * j * j.log()).sum(),
        "The counts before the logarithm were not divided by the number of tokens: f = j/N.": -(
            chance * j * f.log()
        ).sum(),
        "Every code was given the same chance: use the probabilities that come in.": -(
            3 * even * f * f.log()
        ).sum(),
        "This is the true entropy, as if every window had the mean counts: the entropy is concave. Take the mean "
        "of f log f with f = j/N.": h,
        "This is the approximation of Miller and Madow: average over the binomial count.": h
        - 2 / (2 * tokens),
        "The sign is wrong: the entropy is minus the sum.": -exact,
        "This is in bits: use the natural logarithm.": exact / math.log(2),
        "The binomial coefficient is missing: the tokens of a code may stand anywhere in the window.": -(
            nochoose * f * f.log()
        ).sum(),
        "This is the perplexity; the entropy itself is asked for.": exact.exp(),
    }
    _compare(value, exact, mistakes, "the mean entropy over windows of four tokens")
    expect_close(
        _number(answer(p, 1), "the mean entropy"),
        0.0,
        "A window of one token shows one code.",
        name="the mean entropy",
    )
    try:
        large = _number(answer(p, 3_000), "the mean entropy over 3,000 tokens")
    except (OverflowError, RuntimeError) as error:
        if not any(word in str(error).lower() for word in ("overflow", "too large", "too big")):
            raise
        fail(
            "For 3,000 tokens a binomial coefficient is too large for a float: work with log probabilities, "
            "as Binomial.log_prob does."
        )
    if not abs(large - (h - 2 / 6_000)) < 5e-3:  # float32 is welcome; the small windows were exact
        fail(
            f"For 3,000 tokens the mean should be near H - (K-1)/2N = {h - 2 / 6_000:.5f}; {large.item():.5f} arrived. "
            "Work with log probabilities: powers of small numbers underflow."
        )
    return "exact for tiny windows, and close to the formula of Miller and Madow for large ones."

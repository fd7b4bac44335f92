"""Bias of Gumbel-Softmax gradients against the entropy of the choice: Figure 3 of GM-VQ, over a grid of designs.

A design is a number of codes, a scale of the logits and a temperature. Each seed draws one random decoder for
each number of codes and many categoricals; the exact gradient comes from enumeration. Chapter 5.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqbook.estimators import (
    Loss,
    exact_gradient,
    gumbel_softmax_gradient,
    straight_through_gumbel,
)
from vqbook.experiments import Outcome, device_words
from vqbook.train import bar

GRADIENT_BIAS: dict[str, dict[str, Any]] = {  # chapter 5
    "smoke": dict(codes=[4, 64], scales=[0.5, 5, 20], temperatures=[1.0], problems=64, samples=256),
    "read": dict(
        codes=[4, 16, 64], scales=[0.5, 2, 5, 10, 20], temperatures=[0.5, 1.0], problems=128, samples=2_048
    ),
    "full": dict(
        codes=[2, 4, 8, 16, 64, 256],
        scales=[0.5, 1, 2, 5, 10, 20],
        temperatures=[0.25, 0.5, 1.0],
        problems=512,
        samples=8_192,
    ),
}
ESTIMATORS: dict[str, Callable[..., Tensor]] = {
    "gumbel-softmax": gumbel_softmax_gradient,
    "straight-through": straight_through_gumbel,
}


class Points(NamedTuple):
    """One row for each categorical, all (P,).

    Attributes:
        entropy: of the categorical, in nats.
        bias_sq: squared length of the bias, Monte Carlo error taken off (it may be slightly negative).
        size: length of the exact gradient.
        noise: standard error of the estimated mean gradient, as a length.
    """

    entropy: Tensor
    bias_sq: Tensor
    size: Tensor
    noise: Tensor

    @property
    def bias(self) -> Tensor:
        """Length of the bias, zero where the estimate of its square is negative."""
        return self.bias_sq.clamp_min(0).sqrt()


def random_decoder(num_codes: int, generator: torch.Generator, *, dim: int = 8, hidden: int = 32) -> Loss:
    r"""A random non-linear decoder with a squared error.

    $f(y) = \frac{1}{D} \lVert W_2 \tanh(W_1 E^\top y) - t \rVert^2$

    Args:
        num_codes: K, the rows of the random codebook E.
        generator: source of randomness.
        dim: D, length of a code and of the target t.
        hidden: units of the tanh layer.
    """
    codebook = torch.randn(num_codes, dim, generator=generator)
    w1 = torch.randn(dim, hidden, generator=generator) / math.sqrt(dim)
    w2 = torch.randn(hidden, dim, generator=generator) / math.sqrt(hidden)
    target = torch.randn(dim, generator=generator)
    first = codebook @ w1  # the decoder's first layer sees codes only through this product
    return lambda y: ((y @ first.to(y)).tanh() @ w2.to(y) - target.to(y)).square().mean(-1)


def measure_bias(
    f: Loss,
    logits: Tensor,
    generator: torch.Generator,
    *,
    samples: int,
    temperature: float,
    estimator: str = "gumbel-softmax",
    block: int = 64,
) -> Points:
    r"""Entropy, bias and size of the gradient for each of P categoricals.

    The squared bias is $\lVert \bar g - g \rVert^2 - \hat v / S$, unbiased for any number of samples (chapter 5).

    Args:
        f: the loss on points of the simplex, (..., K) -> (...).
        logits: (P, K).
        generator: source of randomness.
        samples: S, gradient estimates for each categorical.
        temperature: tau > 0.
        estimator: "gumbel-softmax" or "straight-through".
        block: how many estimates are held at once.
    Raises:
        ValueError: for an unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {estimator!r}; expected one of {', '.join(ESTIMATORS)}")
    exact = exact_gradient(f, logits.double())
    total, squares = torch.zeros_like(exact), torch.zeros_like(exact)
    for start in range(0, samples, block):
        part = ESTIMATORS[estimator](
            f, logits, generator, min(block, samples - start), temperature=temperature
        )
        total += part.sum(0)
        squares += part.square().sum(0)
    mean = total / samples
    variance = (squares / samples - mean.square()).sum(-1) / (samples - 1)  # of the mean, summed over entries
    log_q = logits.double().log_softmax(-1)
    return Points(
        -(log_q.exp() * log_q).sum(-1),
        (mean - exact).square().sum(-1) - variance,
        exact.norm(dim=-1),
        variance.clamp_min(0).sqrt(),
    )


def pearson(a: Tensor, b: Tensor) -> float:
    """Correlation of two vectors (P,)."""
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def spearman(a: Tensor, b: Tensor) -> float:
    """Correlation of the ranks of two vectors (P,)."""
    return pearson(*(x.argsort().argsort().double() for x in (a, b)))


def correlations(points: Points) -> dict[str, float]:
    """How entropy goes with the bias and with the gradient itself.

    "absolute" is Pearson's r of entropy and length of the bias, "size" that of entropy and length of the exact
    gradient, "beyond" the partial correlation of the first pair when the length of the gradient is held fixed.
    "relative" is about bias per gradient, which spans many powers of ten, so that one outlier would decide
    Pearson's r: there it is Spearman's, the correlation of ranks. "ranks" is Spearman's for entropy and bias, so
    that metric and coefficient need not change together.
    """
    relative_sq = points.bias_sq / points.size.square().clamp_min(1e-300)
    absolute, size = pearson(points.entropy, points.bias), pearson(points.entropy, points.size)
    both = pearson(points.bias, points.size)
    return {
        "absolute": absolute,
        "ranks": spearman(points.entropy, points.bias_sq),
        "relative": spearman(points.entropy, relative_sq),
        "size": size,
        "beyond": (absolute - size * both) / math.sqrt((1 - size**2) * (1 - both**2)),
    }


def fisher_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    r"""Mean correlation over seeds with an interval: Student's t on $\operatorname{artanh} r$, one value a seed.

    Args:
        values: one correlation for each seed, at least two, each strictly between -1 and 1.
        level: coverage.
    Returns:
        Mean, lower and upper end, transformed back.
    Raises:
        ValueError: for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least two, got {len(values)}")
    from scipy.stats import t

    z = torch.tensor(values, dtype=torch.float64).atanh()
    half = t.ppf(0.5 + level / 2, len(values) - 1) * z.std().item() / math.sqrt(len(values))
    middle = z.mean().item()
    return math.tanh(middle), math.tanh(middle - half), math.tanh(middle + half)


def run_gradient_bias(
    settings: dict[str, Any], *, seed: int, checkpoint: Any = None, progress: bool = True
) -> Outcome:
    """Measure every design of the grid, once with Gumbel-Softmax and once straight through."""
    s = settings
    began = time.perf_counter()
    values: dict[str, float] = {}
    history: dict[str, Any] = {"scales": s["scales"], "codes": s["codes"], "temperatures": s["temperatures"]}
    designs = [(k, name, t) for k in s["codes"] for name in ESTIMATORS for t in s["temperatures"]]
    for num_codes, name, temperature in bar(designs, progress):
        generator = torch.Generator().manual_seed(1_000 * seed + num_codes)
        f = random_decoder(num_codes, generator)
        drawn = torch.randn(len(s["scales"]), s["problems"], num_codes, generator=generator)
        found = [
            measure_bias(
                f,
                scale * logits,
                generator,
                samples=s["samples"],
                temperature=temperature,
                estimator=name,
            )
            for scale, logits in zip(s["scales"], drawn, strict=True)
        ]
        every = Points(*(torch.cat(column) for column in zip(*found, strict=True)))
        label = f"{name}_K{num_codes}_t{temperature:g}"
        rows = [correlations(points) for points in found]
        for metric in rows[0]:
            history[f"{metric}_{label}"] = [round(row[metric], 4) for row in rows]
            if temperature == 1 and name == "gumbel-softmax":
                for scale, row in zip(s["scales"], rows, strict=True):
                    values[f"{metric}_K{num_codes}_s{scale:g}"] = row[metric]
                values[f"{metric}_K{num_codes}_all"] = correlations(every)[metric]
        if temperature == 1 and name == "gumbel-softmax":
            values[f"noise_K{num_codes}"] = (every.noise / every.bias.clamp_min(1e-12)).median().item()
            history[f"bins_K{num_codes}"] = _bins(every)
    summary = "correlation with entropy   absolute  relative  size of the gradient\n" + "\n".join(
        f"K = {k:3}, logit scale {scale:4g}    "
        + "".join(f"{values[f'{m}_K{k}_s{scale:g}']:10.2f}" for m in ("absolute", "relative", "size"))
        for k in s["codes"]
        for scale in s["scales"]
    )
    words = f"random tanh decoders: {s['problems']} categoricals a design, {s['samples']:,} gradient estimates each"
    device = device_words(torch.device("cpu"))
    return Outcome(values, history, time.perf_counter() - began, device, words, "", summary)


def _bins(points: Points, count: int = 12) -> dict[str, list[float]]:
    """Means within bins of equally many categoricals, in order of entropy."""
    order = points.entropy.argsort()
    return {
        name: [round(part.mean().item(), 6) for part in column[order].chunk(count)]
        for name, column in (("entropy", points.entropy), ("bias", points.bias), ("size", points.size))
    }

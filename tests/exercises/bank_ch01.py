"""Plausible wrong answers to the exercises of chapter 1."""

from __future__ import annotations

import math

import torch
from wrong import Wrong

from vqbook.metrics import code_counts, perplexity


def _entropy(counts, log=torch.log):
    p = counts / counts.sum()
    p = p[p > 0]
    return -(p * log(p)).sum()


def zeros_kept(counts):
    p = counts / counts.sum()
    return torch.exp(-(p * torch.log(p)).sum())


def raw_counts(counts):
    n = counts[counts > 0].double()
    return torch.exp(-(n * n.log()).sum())


def by_maximum(counts):
    p = counts[counts > 0] / counts.max()
    return torch.exp(-(p * p.log()).sum())


def mean_over_used(counts):
    return (_entropy(counts) / (counts > 0).sum()).exp()


def _rows(of_one):
    return lambda counts: torch.stack([torch.as_tensor(of_one(row)).double() for row in counts])


def by_grand_total(counts):
    return torch.special.entr(counts / counts.sum()).sum(1).exp()


def _codes(x, codebook, pick=torch.argmin):
    return pick((x[:, None] - codebook).square().sum(-1), 1)


def _point(x, codebook, *, pick=torch.argmin, log=torch.log2, per=None):
    codes = _codes(x, codebook, pick)
    counts = torch.bincount(codes, minlength=len(codebook))
    return _entropy(counts, log) / (per or x.shape[1]), (x - codebook[codes]).square().mean()


def wrong_axis(x, codebook):
    sq_dist = (x[:, None] - codebook).square().sum(-1)
    return _point(x, codebook)[0], sq_dist.min(0).values.mean() / x.shape[1]


def dead_code_nan(x, codebook):
    p = torch.bincount(_codes(x, codebook), minlength=len(codebook)) / len(x)
    return -(p * p.log2()).sum() / x.shape[1], _point(x, codebook)[1]


def _sums(x, codes, codebook):
    counts = torch.bincount(codes, minlength=len(codebook))[:, None]
    return torch.zeros_like(codebook).index_add(0, codes, x), counts


def zero_by_zero(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return sums / counts


def clamped(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return sums / counts.clamp_min(1)


def not_divided(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return torch.where(counts > 0, sums, codebook)


def all_points(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return torch.where(counts > 0, sums / len(x), codebook)


def plus_one(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return torch.where(counts > 0, sums / (counts + 1), codebook)


def without_minlength(x, codes, codebook):
    return torch.stack([x[codes == k].mean(0) for k in range(int(codes.max()) + 1)])


def in_place(x, codes, codebook):
    for k in codes.unique():
        codebook[k] = x[codes == k].mean(0)
    return codebook


def moved_to_a_point(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return torch.where(counts > 0, sums / counts.clamp_min(1), x[0])


def starts_from_codebook(x, codes, codebook):
    counts = torch.bincount(codes, minlength=len(codebook))[:, None]
    sums = codebook.index_add(0, codes, x)
    return torch.where(counts > 0, sums / counts.clamp_min(1), codebook)


def more_than_one(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return torch.where(counts > 1, sums / counts.clamp_min(1), codebook)


def judged_by_sum(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return torch.where(sums != 0, sums / counts, codebook)


def counts_too_short(x, codes, codebook):
    counts = torch.bincount(codes)[:, None]
    sums = torch.zeros_like(codebook).index_add(0, codes, x)
    return torch.where(counts > 0, sums / counts.clamp_min(1), codebook)


def transposed(x, codes, codebook):
    sums, counts = _sums(x, codes, codebook)
    return torch.where(counts > 0, sums / counts.clamp_min(1), codebook).T


def weighted_mean(batches, num_codes):
    sizes = torch.tensor([float(b.numel()) for b in batches])
    return (sizes / sizes.sum() * _each(batches, num_codes)).sum()


def miller_madow(batches, num_codes, active=True):
    counts = sum(code_counts(b, num_codes) for b in batches)
    codes = (counts > 0).sum() if active else num_codes
    return perplexity(counts) * torch.exp(torch.as_tensor((codes - 1) / (2 * counts.sum())))


def _each(batches, num_codes):
    return torch.stack([perplexity(code_counts(b, num_codes)) for b in batches])


def equal_weights(batches, num_codes):
    p = torch.stack([code_counts(b, num_codes) / b.numel() for b in batches])
    return perplexity(p.mean(0))


def _binomial(probs, tokens, first=1):
    j = torch.arange(first, tokens + 1, dtype=torch.float64)[:, None]
    return j, torch.distributions.Binomial(tokens, probs.double()).log_prob(j).exp()


def from_zero(probs, tokens):
    j, chance = _binomial(probs, tokens, first=0)
    return -(chance * j / tokens * (j / tokens).log()).sum()


def wrong_log(probs, tokens):
    j, chance = _binomial(probs, tokens)
    return -(chance * j / tokens * probs.log()).sum()


def in_bits(probs, tokens):
    j, chance = _binomial(probs, tokens)
    return -(chance * j / tokens * (j / tokens).log2()).sum()


def no_coefficient(probs, tokens):
    j, _ = _binomial(probs, tokens)
    chance = probs**j * (1 - probs) ** (tokens - j)
    return -(chance * j / tokens * (j / tokens).log()).sum()


def no_exp(probs, tokens):
    j, chance = _binomial(probs, tokens)
    return -(chance.log() * j / tokens * (j / tokens).log()).sum()


def not_per_token(probs, tokens):
    j, chance = _binomial(probs, tokens)
    return -(chance * j * j.log()).sum()


def even_codes(probs, tokens):
    return in_nats(torch.full_like(probs, 1 / len(probs)), tokens)


def in_nats(probs, tokens):
    j, chance = _binomial(probs, tokens)
    return -(chance * j / tokens * (j / tokens).log()).sum()


def too_large(probs, tokens):
    total = 0.0
    for j in range(1, tokens + 1):
        chance = math.comb(tokens, j) * probs**j * (1 - probs) ** (tokens - j)
        total -= (chance * j / tokens).sum() * math.log(j / tokens)
    return total


def underflow(probs, tokens):
    total = 0.0
    for j in range(1, tokens + 1):
        choose = float(min(math.comb(tokens, j), 10**300))
        total -= (choose * probs**j * (1 - probs) ** (tokens - j) * j / tokens).sum() * math.log(j / tokens)
    return total


BANK = {
    "ex-perplexity": [
        Wrong("exp of bits", _rows(lambda n: _entropy(n, torch.log2).exp()), says="use one base for both"),
        Wrong("2 to the nats", _rows(lambda n: 2 ** _entropy(n)), says="base 2 and the logarithm natural"),
        Wrong("zero counts give NaN", _rows(zeros_kept), says="0 · log 0"),
        Wrong("counts not normalised", _rows(raw_counts), says="divided by their total"),
        Wrong("active codes", _rows(lambda n: (n > 0).sum()), says="active codes"),
        Wrong("entropy instead of its exponential", _rows(_entropy), says="its exponential"),
        Wrong("sign lost", _rows(lambda n: (-_entropy(n)).exp()), says="sign"),
        Wrong("mean for sum", _rows(lambda n: (_entropy(n) / len(n)).exp()), says="sum of -p log p"),
        Wrong("smoothed counts", _rows(lambda n: _entropy(n + 1).exp()), says="one was added"),
        Wrong("codebook size", _rows(len), says="whatever their usage"),
        Wrong("divided by the maximum", _rows(by_maximum), says="maximum"),
        Wrong("inverse Simpson", _rows(lambda n: 1 / (n / n.sum()).square().sum()), says="Simpson"),
        Wrong("zeros raised to one", _rows(lambda n: _entropy(n.clamp_min(1)).exp()), says="raised to one"),
        Wrong("mean over used codes", _rows(mean_over_used), says="codes in use"),
        Wrong(
            "one number for all windows", lambda n: _entropy(n.flatten()).exp(), says="one for each window"
        ),
        Wrong("windows added up", lambda n: _entropy(n.sum(0)).exp().expand(len(n)), says="added up"),
        Wrong("divided by the total of all", by_grand_total, says="each row by its own"),
    ],
    "ex-point": [
        Wrong("argmax for argmin", lambda x, e: _point(x, e, pick=torch.argmax), says="farthest"),
        Wrong(
            "distortion of a vector",
            lambda x, e: (_point(x, e)[0], _point(x, e)[1] * x.shape[1]),
            says="divide by the number of coordinates",
        ),
        Wrong(
            "sum for mean", lambda x, e: (_point(x, e)[0], _point(x, e)[1] * x.numel()), says="take the mean"
        ),
        Wrong("root of the distortion", lambda x, e: (_point(x, e)[0], _point(x, e)[1].sqrt()), says="root"),
        Wrong("nats for bits", lambda x, e: _point(x, e, log=torch.log), says="nats"),
        Wrong(
            "log2 K for entropy",
            lambda x, e: (math.log2(len(e)) / x.shape[1], _point(x, e)[1]),
            says="log2 K",
        ),
        Wrong("bits of a vector", lambda x, e: _point(x, e, per=1), says="bits of a whole vector"),
        Wrong("dead code gives NaN", dead_code_nan, says="0 · log 0"),
        Wrong("swapped", lambda x, e: _point(x, e)[::-1], says="swapped"),
        Wrong(
            "perplexity for entropy",
            lambda x, e: (_point(x, e, log=torch.log, per=1)[0].exp(), _point(x, e)[1]),
            says="perplexity",
        ),
        Wrong("entropy by K", lambda x, e: _point(x, e, per=len(e)), says="number of codes"),
        Wrong(
            "bits of the whole set", lambda x, e: _point(x, e, per=1 / len(x)), says="all vectors together"
        ),
        Wrong("argmin over vectors", wrong_axis, says="dimension 1"),
        Wrong("one value", lambda x, e: _point(x, e)[1], says="return two numbers"),
    ],
    "ex-centroid": [
        Wrong("empty cell gives NaN", zero_by_zero, says="NaN"),
        Wrong("empty cell goes to the origin", clamped, says="origin"),
        Wrong("sum for mean", not_divided, says="not their sum"),
        Wrong("divided by N", all_points, says="points of its own cell"),
        Wrong("count plus one", plus_one, says="one too large"),
        Wrong("last empty cell dropped", without_minlength, says="minlength"),
        Wrong("codebook changed in place", in_place, says="in place"),
        Wrong("sums start from the codebook", starts_from_codebook, says="start from zeros"),
        Wrong("a single point does not count", more_than_one, says="single point"),
        Wrong("emptiness judged by the sum", judged_by_sum, says="not the sums"),
        Wrong("counts without minlength", counts_too_short, says="minlength"),
        Wrong("transposed", transposed, says="transposed"),
        Wrong("empty code moved to a point", moved_to_a_point, says="stay where it was"),
    ],
    "ex-59": [
        Wrong(
            "mean of perplexities", lambda b, k: _each(b, k).mean(), says="mean of the batches' perplexities"
        ),
        Wrong("mean of entropies", lambda b, k: _each(b, k).log().mean().exp(), says="mean entropy"),
        Wrong("sum of perplexities", lambda b, k: _each(b, k).sum(), says="sum of the batches' perplexities"),
        Wrong("best batch", lambda b, k: _each(b, k).max(), says="largest"),
        Wrong("last batch", lambda b, k: _each(b, k)[-1], says="last batch"),
        Wrong("batches weighted equally", equal_weights, says="differ in length"),
        Wrong("active codes", lambda b, k: len(torch.cat(b).unique()), says="active codes"),
        Wrong("mean weighted by tokens", weighted_mean, says="weighted by the length"),
        Wrong(
            "last batch skipped", lambda b, k: perplexity(code_counts(torch.cat(b[:-1]), k)), says="missing"
        ),
        Wrong("codebook size", lambda b, k: k, says="whatever their usage"),
        Wrong("pooled and corrected", miller_madow, says="correction"),
        Wrong("corrected with K", lambda b, k: miller_madow(b, k, active=False), says="all K codes"),
        Wrong("not exponentiated", lambda b, k: _entropy(code_counts(torch.cat(b), k)), says="exponential"),
    ],
    "ex-window": [
        Wrong("mean counts put in", lambda p, n: -(p * p.log()).sum(), says="concave"),
        Wrong(
            "Miller-Madow",
            lambda p, n: -(p * p.log()).sum() - (len(p) - 1) / (2 * n),
            says="Miller and Madow",
        ),
        Wrong("count of zero gives NaN", from_zero, says="start at one"),
        Wrong("log of the true frequency", wrong_log, says="f log f"),
        Wrong("bits", in_bits, says="natural logarithm"),
        Wrong("binomial coefficient forgotten", no_coefficient, says="coefficient"),
        Wrong("powers underflow", underflow, says="underflow"),
        Wrong("exp forgotten", no_exp, says="exp of log_prob"),
        Wrong("counts not divided", not_per_token, says="not divided by the number of tokens"),
        Wrong("even codes assumed", even_codes, says="same chance"),
        Wrong("coefficient overflows", too_large, says="too large for a float"),
    ],
}

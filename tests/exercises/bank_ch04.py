"""Plausible wrong answers to the exercises of chapter 4."""

from __future__ import annotations

import torch
from wrong import Wrong

from vqbook.quantizers import ema_update, nearest_code, smoothed_codebook


def _statistics(z, codes, num_codes):
    flat, index = z.reshape(-1, z.shape[-1]), codes.flatten()
    n = torch.bincount(index, minlength=num_codes).to(z)
    return n, torch.zeros(num_codes, z.shape[-1]).index_add_(0, index, flat)


def _update(of_counts, of_sums):
    """An answer to ex-ema-update: each function gets the old value, the batch's n and s, and the decay."""

    def update(counts, sums, z, codes, decay):
        n, s = _statistics(z, codes, len(counts))
        return of_counts(counts, n, s, decay), of_sums(sums, n, s, decay)

    return update


def _right_counts(counts, n, s, decay):
    return decay * counts + (1 - decay) * n


def _right_sums(sums, n, s, decay):
    return decay * sums + (1 - decay) * s


def _mean(n, s):
    return s / n.clamp_min(1)[:, None]


def no_minlength(counts, sums, z, codes, decay):
    n = torch.bincount(codes.flatten())
    _, new = ema_update(counts, sums, z, codes, decay)
    return decay * counts[: len(n)] + (1 - decay) * n, new


def overwrites(counts, sums, z, codes, decay):
    n, _ = _statistics(z, codes, len(counts))
    s = torch.zeros_like(sums)
    for vector, code in zip(z.reshape(-1, z.shape[-1]), codes.flatten(), strict=True):
        s[code] = vector
    return decay * counts + (1 - decay) * n, decay * sums + (1 - decay) * s


def divides(counts, sums, z, codes, decay):
    counts, sums = ema_update(counts, sums, z, codes, decay)
    return counts, sums / counts.clamp_min(1e-9)[:, None]


def in_place(counts, sums, z, codes, decay):
    n, s = _statistics(z, codes, len(counts))
    return counts.mul_(decay).add_((1 - decay) * n), sums.mul_(decay).add_((1 - decay) * s)


def only_used(counts, sums, z, codes, decay):
    n, _ = _statistics(z, codes, len(counts))
    new, new_sums = ema_update(counts, sums, z, codes, decay)
    return torch.where(n > 0, new, counts), torch.where(n[:, None] > 0, new_sums, sums)


def sums_only_used(counts, sums, z, codes, decay):
    n, _ = _statistics(z, codes, len(counts))
    new, new_sums = ema_update(counts, sums, z, codes, decay)
    return new, torch.where(n[:, None] > 0, new_sums, sums)


def _restart(choose, due=lambda idle, timeout: idle >= timeout):
    """An answer to ex-revival that puts the codes that are due where `choose` says."""

    def my_revive(codebook, idle, z, timeout, generator):
        dead = due(idle, timeout)
        new = codebook.clone()
        new[dead] = choose(codebook, z, int(dead.sum()), generator)
        return new

    return my_revive


def _random(codebook, z, many, generator):
    return z[torch.randperm(len(z), generator=generator)[:many]]


def _with_replacement(codebook, z, many, generator):
    return z[torch.randint(20, (many,), generator=generator)]


def _noisy(codebook, z, many, generator):
    return _random(codebook, z, many, generator) + torch.randn(many, z.shape[-1], generator=generator)


def revive_in_place(codebook, idle, z, timeout, generator):
    codebook[idle >= timeout] = z[0]
    return codebook


def only_rows(codebook, idle, z, timeout, generator):
    return z[torch.randperm(len(z), generator=generator)[: int((idle >= timeout).sum())]]


def _layer(first=True, vectors="old", named="old", again=False, twice=False, learn=True, late=False):
    """An answer to ex-ema-order; `vectors` and `named` say whose codebook looks up and whose codes are given."""

    def layer(z_e, codebook, counts, sums, decay):
        codes = nearest_code(z_e, codebook)
        counts_, sums_ = ema_update(counts, sums, z_e, codes, decay)
        book = smoothed_codebook(counts_, sums_)
        later = nearest_code(z_e, book)
        if late:
            counts_, sums_ = ema_update(counts, sums, z_e, later, decay)
            book = smoothed_codebook(counts_, sums_)
        if twice:
            counts_, sums_ = ema_update(counts_, sums_, z_e, later, decay)
            book = smoothed_codebook(counts_, sums_)
        table = codebook if vectors == "old" else book
        z_q = table[later if again else codes]
        if not learn:
            book, counts_, sums_ = codebook, counts, sums
        return z_q, codes if named == "old" else later, book, counts_, sums_

    return layer


BANK = {
    "ex-ema-update": [
        Wrong(
            "decay and 1 - decay swapped",
            _update(lambda c, n, s, d: (1 - d) * c + d * n, lambda m, n, s, d: (1 - d) * m + d * s),
            says="decay weighs the new batch",
        ),
        Wrong(
            "means for sums",
            _update(_right_counts, lambda m, n, s, d: d * m + (1 - d) * _mean(n, s)),
            says="keep the sum",
        ),
        Wrong(
            "frequencies",
            _update(lambda c, n, s, d: d * c + (1 - d) * n / n.sum(), _right_sums),
            says="frequencies",
        ),
        Wrong("batch at full weight", _update(lambda c, n, s, d: d * c + n, _right_sums), says="full weight"),
        Wrong(
            "nothing forgotten", _update(lambda c, n, s, d: c + (1 - d) * n, _right_sums), says="forgotten"
        ),
        Wrong("idle codes keep their count", only_used, says="an idle code never looks idle"),
        Wrong("idle codes keep their sum", sums_only_used, says="run away from the origin"),
        Wrong("counts not updated", _update(lambda c, n, s, d: c.clone(), _right_sums), says="not updated"),
        Wrong(
            "each code once",
            _update(lambda c, n, s, d: d * c + (1 - d) * (n > 0).float(), _right_sums),
            says="counted once",
        ),
        Wrong(
            "sums at full weight", _update(_right_counts, lambda m, n, s, d: d * m + s), says="missing there"
        ),
        Wrong(
            "sums with the weights swapped",
            _update(_right_counts, lambda m, n, s, d: (1 - d) * m + d * s),
            says="in the sums",
        ),
        Wrong("divided already", divides, says="look like codes"),
        Wrong("last vector only", overwrites, says="index_add_"),
        Wrong("no minlength", no_minlength, says="minlength"),
        Wrong("in place", in_place, says="changed its input"),
        Wrong("places swapped", lambda c, m, z, k, d: ema_update(c, m, z, k, d)[::-1], says="changed places"),
        Wrong("one thing", lambda c, m, z, k, d: ema_update(c, m, z, k, d)[0], says="return two things"),
        Wrong("parameters renamed", lambda n, m, z: (n, m), says="should take (counts, sums, z, codes"),
    ],
    "ex-smoothing": [
        Wrong("eps added", lambda counts, eps: counts + eps, says="the sum has grown by K eps"),
        Wrong(
            "probabilities",
            lambda counts, eps: (counts + eps) / (counts.sum() + len(counts) * eps),
            says="these are probabilities",
        ),
        Wrong(
            "eps once",
            lambda counts, eps: (counts + eps) / (counts.sum() + eps) * counts.sum(),
            says="the divisor is n + eps",
        ),
        Wrong("clamp", lambda counts, eps: counts.clamp_min(eps), says="a floor is no smoothing"),
        Wrong(
            "clamp, then scale",
            lambda counts, eps: counts.clamp_min(eps) / counts.clamp_min(eps).sum() * counts.sum(),
            says="become equal",
        ),
        Wrong(
            "scaled to K",
            lambda counts, eps: (counts + eps) / (counts.sum() + len(counts) * eps) * len(counts),
            says="scaled to K",
        ),
        Wrong("unchanged", lambda counts, eps: counts.clone(), says="unchanged"),
        Wrong(
            "eps shared out",
            lambda counts, eps: counts + eps / len(counts),
            says="mass is not conserved",
        ),
        Wrong(
            "taken from all alike",
            lambda counts, eps: counts - eps,
            says="infinities",
        ),
        Wrong(
            "mixed with the uniform",
            lambda counts, eps: (1 - eps) * counts + eps * counts.mean(),
            says="the same eps before the scaling",
        ),
        Wrong("a number", lambda counts, eps: counts.sum().item(), says="a tensor of shape"),
    ],
    "ex-revival": [
        Wrong(
            "inverted",
            _restart(_random, lambda idle, timeout: idle < timeout),
            says="the wrong way round",
        ),
        Wrong(
            "later by one", _restart(_random, lambda idle, timeout: idle > timeout), says="idle >= timeout"
        ),
        Wrong("everyone", _restart(_random, lambda idle, timeout: idle >= 0), says="in use was moved"),
        Wrong("nobody", lambda codebook, idle, z, timeout, generator: codebook.clone(), says="no code was"),
        Wrong(
            "not all",
            _restart(_random, lambda idle, timeout: idle >= 2 * timeout - 1),
            says="were due for a restart",
        ),
        Wrong("one vector for all", _restart(lambda e, z, many, g: z[7]), says="on the same vector"),
        Wrong("mean of the batch", _restart(lambda e, z, many, g: z.mean(0)), says="mean of the batch"),
        Wrong("rows of the codebook", _restart(lambda e, z, many, g: e[:many]), says="none of the vectors"),
        Wrong("noise", _restart(_noisy), says="exactly as it is"),
        Wrong("first rows", _restart(lambda e, z, many, g: z[:many]), says="first rows of z that are taken"),
        Wrong(
            "fixed draw", _restart(lambda e, z, many, g: z[10 : 10 + many]), says="draw from the generator"
        ),
        Wrong("with replacement", _restart(_with_replacement), says="without replacement"),
        Wrong(
            "global generator",
            _restart(lambda e, z, many, g: z[torch.randperm(len(z))[:many]]),
            says="not from the global one",
        ),
        Wrong(
            "range of the codes",
            _restart(lambda e, z, many, g: z[torch.randperm(len(e), generator=g)[:many]]),
            says="range of the draw",
        ),
        Wrong("in place", revive_in_place, says="changed its input"),
        Wrong("new rows alone", only_rows, says="expected (12, 3)"),
    ],
    "ex-ema-order": [
        Wrong("left as it was", _layer(vectors="new"), says="the nearest code of either"),
        Wrong("codes chosen again", _layer(vectors="new", named="new"), says="vectors of the first choice"),
        Wrong("codes of the new book", _layer(named="new"), says="a receiver would look up other vectors"),
        Wrong("changed sides", _layer(named="new", again=True), says="changed sides"),
        Wrong("no update", _layer(learn=False), says="does not learn any more"),
        Wrong("updated twice", _layer(vectors="new", named="new", again=True, twice=True), says="twice"),
        Wrong("new codes in the statistics", _layer(late=True), says="those of the old one"),
        Wrong(
            "not quantised",
            lambda z_e, codebook, counts, sums, decay: (
                z_e,
                *_layer()(z_e, codebook, counts, sums, decay)[1:],
            ),
            says="nothing is quantised",
        ),
        Wrong("three things", lambda *given: _layer()(*given)[:3], says="return z_q, codes, codebook"),
    ],
}

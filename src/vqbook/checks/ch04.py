"""Checks of chapter 4, Keeping the codebook alive.

The exercises are about book-keeping: what is counted, what is forgotten, and which codebook a vector came from. The
checks compare with what every right answer shares and name the usual slip where they recognise it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqbook.checks import check, describe, expect_close, expect_shape, fail, refuse_numpy
from vqbook.quantizers import ema_update as library_update
from vqbook.quantizers import nearest_code, smoothed_codebook

Answer = Callable[..., Any]


def _close(a: Any, b: Tensor) -> bool:
    return isinstance(a, Tensor) and a.shape == b.shape and torch.allclose(a.to(b), b, rtol=1e-4, atol=1e-5)


def _name_slip(arrived: Any, slips: dict[str, Tensor]) -> None:
    """Fail with the words of the first slip whose result has arrived."""
    for words, wrong in slips.items():
        if _close(arrived, wrong):
            fail(words)


@check("ex-ema-update", takes="counts, sums, z, codes, decay")
def ema_update(answer: Answer, rng: torch.Generator) -> str:
    """New (counts, sums) of running averages, for vectors (..., D) and codes (...)."""
    for lead in ((50,), (2, 5, 5)):
        for decay in (0.9, 0.0):
            _one_update(answer, lead, decay, rng)
    z = torch.randn(300, 4, generator=rng)
    counts, sums = torch.ones(3), torch.zeros(3, 4)
    for _ in range(60):
        counts, sums = answer(counts, sums, z, torch.arange(300) % 3, 0.5)
    means = torch.stack([z[i::3].mean(0) for i in range(3)])
    expect_close(
        sums / counts.unsqueeze(-1),
        means,
        "After many equal batches sums / counts should be the mean of each cluster.",
        atol=1e-3,
        name="sums / counts",
    )
    return "counts and sums forget at the same pace, and their ratio is each cluster's mean."


def _one_update(answer: Answer, lead: tuple[int, ...], decay: float, rng: torch.Generator) -> None:
    """Fail unless one update is right, with one code (the last) that nobody chose."""
    num_codes, dim = 6, 3
    z = 1 + torch.randn(*lead, dim, generator=rng)
    codes = torch.randint(0, num_codes - 1, lead, generator=rng)
    codes.view(-1)[: num_codes - 1] = torch.arange(num_codes - 1)
    counts = 5 + 10 * torch.rand(num_codes, generator=rng)
    sums = torch.randn(num_codes, dim, generator=rng) * counts.unsqueeze(-1)
    returned = answer(counts, sums, z, codes, decay)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        fail(f"return two things, the new counts and the new sums; {describe(returned)} arrived.")
    new_counts, new_sums = returned
    for value in (new_counts, new_sums):
        refuse_numpy(value)
    if isinstance(new_counts, Tensor) and new_counts.ndim == 2:
        fail(
            "counts and sums have changed places, or the counts have an axis too many: counts (K,) go first."
        )
    if isinstance(new_counts, Tensor) and new_counts.shape == (num_codes - 1,):
        fail(
            "one count is missing: the last code was chosen by nobody, and bincount stops at the largest code that "
            "occurs. It takes a minlength."
        )
    expect_shape(new_counts, (num_codes,), "the tensor of counts")
    expect_shape(new_sums, (num_codes, dim), "the tensor of sums")

    n = torch.bincount(codes.flatten(), minlength=num_codes).to(z)
    s = torch.zeros(num_codes, dim).index_add_(0, codes.flatten(), z.reshape(-1, dim))
    used = n > 0
    keep, gain = decay, 1 - decay
    _name_slip(
        new_counts,
        {
            "decay weighs the new batch here: it should weigh the past, and 1 - decay the batch.": gain
            * counts
            + keep * n,
            "the counts are frequencies (divided by the number of vectors); keep counts, or the first batches weigh "
            "too much.": keep * counts + gain * n / n.sum(),
            "the batch is added at full weight: 1 - decay is missing, so the counts grow without end.": keep
            * counts
            + n,
            "the past is kept at full weight: decay is missing, nothing is ever forgotten.": counts
            + gain * n,
            "codes that nobody chose keep their count: forgetting is for all, or an idle code never looks idle.": (
                torch.where(used, keep * counts + gain * n, counts)
            ),
            "the counts are not updated.": counts,
            "each code is counted once, however many vectors chose it.": keep * counts + gain * used.to(z),
        }
        if decay
        else {},
    )
    expect_close(new_counts, keep * counts + gain * n, name="the tensor of counts")
    means = s / n.clamp_min(1).unsqueeze(-1)
    _name_slip(
        new_sums,
        {
            "the sums hold the mean of each cluster: keep the sum. A code with ten vectors must weigh ten times as "
            "much as one with a single vector.": keep * sums + gain * means,
            "these look like codes, not like sums: the division comes later, when the codebook is made.": (
                (keep * sums + gain * s) / (keep * counts + gain * n).clamp_min(1e-9).unsqueeze(-1)
            ),
            "decay weighs the new batch in the sums, and the past in the counts.": gain * sums + keep * s,
            "the batch is added to the sums at full weight: 1 - decay is missing there.": keep * sums + s,
            "sums of codes that nobody chose are kept as they are while their counts shrink: the code would run away "
            "from the origin.": torch.where(used.unsqueeze(-1), keep * sums + gain * s, sums),
            "the last vector of each cluster has replaced the others: writing with sums[codes] = z keeps one; "
            "index_add_ adds all.": keep * sums + gain * _last(z, codes, num_codes),
        }
        if decay
        else {
            "the sums hold the mean of each cluster: keep the sum. A code with ten vectors must weigh ten times as "
            "much as one with a single vector.": means,
        },
    )
    expect_close(new_sums, keep * sums + gain * s, name="the tensor of sums")


def _last(z: Tensor, codes: Tensor, num_codes: int) -> Tensor:
    out = torch.zeros(num_codes, z.shape[-1])
    for vector, code in zip(z.reshape(-1, z.shape[-1]), codes.flatten(), strict=True):
        out[code] = vector
    return out


@check("ex-smoothing", takes="counts, eps")
def smoothing(answer: Answer, rng: torch.Generator) -> str:
    """Smoothed counts (K,) with the sum of the counts."""
    for num_codes, eps in ((7, 0.5), (40, 1e-2)):
        counts = 10 * torch.rand(num_codes, generator=rng)
        counts[torch.randperm(num_codes, generator=rng)[:2]] = 0
        total = counts.sum()
        smooth = answer(counts, eps)
        expect_shape(smooth, (num_codes,), "the tensor of smoothed counts")
        _name_slip(
            smooth,
            {
                "the counts are unchanged.": counts,
                "eps is added and nothing is taken: the sum has grown by K eps. Scale back to the old sum.": counts
                + eps,
                "these are probabilities, with sum one: multiply by the sum of the counts, or every code is divided "
                "by a number of the wrong size.": (counts + eps) / (total + num_codes * eps),
                "the divisor is n + eps: eps was added K times, once for each code.": (counts + eps)
                / (total + eps)
                * total,
                "a floor is no smoothing: with clamp the small counts rise and nobody pays for it.": counts.clamp_min(
                    eps
                ),
                "a floor, then scaled: the sum is right, but two rare codes below the floor become equal. Add eps to "
                "each instead.": counts.clamp_min(eps) / counts.clamp_min(eps).sum() * total,
                "the result is scaled to K: keep the sum of the counts.": (counts + eps)
                / (total + num_codes * eps)
                * num_codes,
            },
        )
        if (smooth <= 0).any():
            fail("a count of zero stays zero (or below): dividing by it will give infinities.")
        if not torch.isclose(smooth.sum(), total, rtol=1e-4):
            fail(
                f"the smoothed counts sum to {smooth.sum().item():.4g}, the counts to {total.item():.4g}: mass is not "
                "conserved."
            )
        wanted = (counts + eps) / (total + num_codes * eps) * total
        expect_close(
            smooth, wanted, "The sum is right; each code should receive the same eps before the scaling."
        )
    return "no count is zero, every code received the same, and the sum is what it was."


@check("ex-revival", takes="codebook, idle, z, timeout, generator")
def revival(answer: Answer, rng: torch.Generator) -> str:
    """A new codebook (K, D) in which codes idle for `timeout` steps restart at different rows of z (N, D)."""
    num_codes, dim, timeout = 12, 3, 5
    codebook = torch.randn(num_codes, dim, generator=rng)
    z = 50 + torch.randn(80, dim, generator=rng)
    idle = torch.tensor([0, 5, 4, 9, 0, 1, 6, 5, 3, 20, 0, 2])
    dead = idle >= timeout

    def run(seed: int, idle: Tensor = idle) -> Tensor:
        new = answer(codebook, idle, z, timeout, torch.Generator().manual_seed(seed))
        expect_shape(new, (num_codes, dim), "the new codebook")
        return new.detach()

    new = run(0)
    moved = (new != codebook).any(-1)
    if torch.equal(moved, ~dead):
        fail("the codes in use were moved and the idle ones were kept: the mask is the wrong way round.")
    if torch.equal(moved, idle > timeout):
        fail(
            "a code that has been idle for exactly `timeout` steps is kept: the condition is idle >= timeout."
        )
    if moved[~dead].any():
        fail("a code that is in use was moved: only codes with idle >= timeout restart.")
    if not moved.any():
        fail("no code was restarted.")
    if not moved[dead].all():
        fail(f"{int(dead.sum())} codes were due for a restart, {int(moved.sum())} were moved.")
    rows = (new[dead].unsqueeze(1) == z).all(-1)  # (dead, N)
    if not rows.any(-1).all():
        if _close(new[dead], z.mean(0).expand(int(dead.sum()), dim)):
            fail(
                "every restarted code lies on the mean of the batch, where perhaps no vector is: take rows of z."
            )
        fail(
            "a restarted code lies on none of the vectors of z: the new place should be a row of z, exactly as it is."
        )
    where = rows.double().argmax(-1)
    if len(set(where.tolist())) == 1:
        fail(
            "all restarted codes lie on the same vector: one of them will win its whole neighbourhood and the others "
            "die again. Draw a different row for each."
        )
    draws = [where.tolist()]
    for seed in range(1, 40):
        rows = (run(seed)[dead].unsqueeze(1) == z).all(-1)
        draws.append(rows.double().argmax(-1).tolist())
        if len(set(draws[-1])) < len(draws[-1]):
            fail("two restarted codes share a vector: draw without replacement, for example with randperm.")
    if all(draw == draws[0] for draw in draws):
        if draws[0] == list(range(len(draws[0]))) or draws[0] == dead.nonzero().flatten().tolist():
            fail(
                "it is always the first rows of z that are taken. Neighbouring rows are neighbouring places of one "
                "image: draw at random."
            )
        fail("40 generators give the same restart: draw from the generator.")
    if not torch.equal(run(3), run(3)):
        fail("the same seed gives two different results: draw from `generator`, not from the global one.")
    if max(max(draw) for draw in draws) < 40:
        fail(
            "only the first rows of z are ever drawn: all of them should have the same chance. Is the range of "
            "the draw the number of codes?"
        )
    nothing = run(0, torch.zeros_like(idle))
    expect_close(
        nothing, codebook, "With no idle code the codebook should stay as it is.", name="the new codebook"
    )
    return "idle codes restart at different random vectors; no other code moves."


@check("ex-ema-order", takes="z_e, codebook, counts, sums, decay")
def ema_order(answer: Answer, rng: torch.Generator) -> str:
    """z_q, codes and the new (codebook, counts, sums): vectors and codes of one and the same codebook."""
    for decay in (0.9, 0.3):
        counts = 1 + torch.rand(8, generator=rng)
        codebook = torch.randn(8, 3, generator=rng)
        sums = codebook * counts.unsqueeze(-1)
        z_e = 1.5 * torch.randn(200, 3, generator=rng) + 0.5
        returned = answer(z_e, codebook, counts, sums, decay)
        if not isinstance(returned, tuple | list) or len(returned) != 5:
            fail(f"return z_q, codes, codebook, counts and sums; {describe(returned)} arrived.")
        z_q, codes, *state = returned
        expect_shape(z_q, (200, 3), "z_q")
        expect_shape(codes, (200,), "the tensor of codes")
        first = nearest_code(z_e, codebook)
        new_counts, new_sums = library_update(counts, sums, z_e, first, decay)
        book = smoothed_codebook(new_counts, new_sums)
        later = nearest_code(z_e, book)
        if _close(state[0], codebook) or _close(state[1], counts):
            fail(
                "the codebook does not learn any more: the update should happen, only not between choice and look-up."
            )
        _name_slip(
            state[1],
            {
                "the running averages were updated twice in one step.": library_update(
                    new_counts, new_sums, z_e, later, decay
                )[0],
            },
        )
        if not torch.equal(first, later) and _close(
            state[1], library_update(counts, sums, z_e, later, decay)[0]
        ):
            fail("the statistics were made with codes of the new codebook: those of the old one built it.")
        for value, wanted, name in zip(
            state, (book, new_counts, new_sums), ("codebook", "counts", "sums"), strict=True
        ):
            expect_close(
                value, wanted, "The update itself was right in the code above.", name=f"the new {name}"
            )
        if _close(z_q, codebook[first]) and torch.equal(codes, first):
            continue
        if _close(z_q, book[later]) and torch.equal(codes, later):
            continue
        if _close(z_q, book[first]) and torch.equal(codes, first):
            fail(
                "codes chosen in the old codebook, vectors looked up in the new one: z_q is not the nearest code of "
                "either, and it has seen the whole batch."
            )
        if _close(z_q, book[first]) and torch.equal(codes, later):
            fail("the codes were chosen again, but z_q still holds the vectors of the first choice.")
        if _close(z_q, codebook[first]) and torch.equal(codes, later):
            fail(
                "z_q is of the old codebook, the codes of the new one: a receiver would look up other vectors."
            )
        if _close(z_q, codebook[later]):
            fail(
                "codes chosen in the new codebook, vectors looked up in the old one: the mismatch has changed sides."
            )
        if _close(z_q, z_e):
            fail("z_q has the value of z_e: nothing is quantised.")
        fail(
            "z_q and the codes do not belong to one codebook: z_q[n] is row codes[n] of the book that chose it."
        )
    return "vectors and codes come from one codebook, and the codebook still learns."

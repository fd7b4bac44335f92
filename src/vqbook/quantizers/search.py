r"""Exact search for the nearest codes, in bounded memory.

The distance is ranked by its expansion: $\lVert z - e_k \rVert^2 = \lVert z \rVert^2 - 2 s_k$ with the score
$s_k = z \cdot e_k - \lVert e_k \rVert^2 / 2$, one matrix product. Three ideas make that fast and exact.

*Blocks.* Scores exist for one block of vectors and codes at a time, small enough to stay in the processor's
cache; on a GPU they never leave the chip (`search_triton`). Each thread has blocks of its own (`threads`), and
what costs little is done for several blocks at once: threads of one Python process wait for each other between
operations, so few large ones are better than many small ones.

*Groups.* `argmax` is slow and `amax` is not. So a block first yields the maximum of each of 32 groups of
codes; only the winning group is then looked at code by code.

*Certificate.* The runner-up is kept as well. Rounding can move a score by a known amount at most; where winner
and runner-up are closer than that, the row is in doubt and is decided again in float64, close rivals from the
plain differences $z - e_k$. Few rows are: a score's gaps are usually far wider than its rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vqbook.quantizers import search_triton
from vqbook.quantizers.settle import centred, rounding_bound, settle
from vqbook.quantizers.threads import in_threads, undivided

_ENTRIES = 1 << 19  # scores that one thread holds at a time: 2 MiB in float32
_BLOCKS = 8  # blocks of vectors that one thread finishes together
_GROUPS = 32
_CODES = 1024  # codes in a block, at most


def nearest_code(z: Tensor, codebook: Tensor) -> Tensor:
    r"""Index of the nearest code for each vector.

    $k^*(z) = \arg\min_k \lVert z - e_k \rVert^2$, the lowest index when codes tie.

    The answer is that of the definition: see the module's text for how. Extra memory does not grow with
    N x K. Works under autocast and `torch.compile`.

    Args:
        z: vectors, (..., D), or (H, ..., D) for H codebooks. Half precision is computed in float32.
        codebook: codes, (K, D), or (H, K, D); K at least 1.
    Returns:
        Codes, int64, (...) or (H, ...). No gradient: an argmin has none.
    Raises:
        ValueError: shapes or devices do not fit, or values are not finite.

    Chapter 3; how fast it is, and how that was measured: the page "How fast".
    """
    return _search(z, codebook, 1).squeeze(-1)


def top_k_codes(z: Tensor, codebook: Tensor, k: int) -> Tensor:
    r"""Indices of the k nearest codes for each vector, nearest first; the lower index first when codes tie.

    Args:
        z: vectors, (..., D), or (H, ..., D) for H codebooks. Half precision is computed in float32.
        codebook: codes, (K, D), or (H, K, D).
        k: how many, 1 to K.
    Returns:
        Codes, int64, (..., k) or (H, ..., k). No gradient.
    Raises:
        ValueError: shapes or devices do not fit, values are not finite, or k is not between 1 and K.

    Chapters 3 and 11.
    """
    return _search(z, codebook, k)


def _search(z: Tensor, codebook: Tensor, k: int) -> Tensor:
    if codebook.ndim not in (2, 3) or codebook.shape[-2] == 0:
        raise ValueError(f"codebook must be (K, D) or (H, K, D) with K >= 1, got {tuple(codebook.shape)}")
    if not (z.is_floating_point() and codebook.is_floating_point()):
        raise ValueError(f"z and codebook must be floating point, got {z.dtype} and {codebook.dtype}")
    if z.device != codebook.device:
        raise ValueError(f"z and codebook must be on one device, got {z.device} and {codebook.device}")
    heads, dim = codebook.shape[:-2], codebook.shape[-1]
    if z.ndim < 1 or z.shape[-1] != dim:
        raise ValueError(
            f"z must be (..., D) with D = {dim} as in the codebook, got {tuple(z.shape)}; "
            "images go channels last"
        )
    if heads and (z.ndim < 2 or z.shape[0] != heads[0]):
        raise ValueError(f"z must be (H, ..., D) with H = {heads[0]} codebooks, got {tuple(z.shape)}")
    if not 1 <= k <= codebook.shape[-2]:
        raise ValueError(f"k must lie between 1 and the {codebook.shape[-2]} codes, got {k}")
    rows = z.detach().reshape(*heads, -1, dim) if z.numel() else z.new_empty(*heads, 0, dim)
    if heads:
        found = torch.stack([_top(r, c, k) for r, c in zip(rows, codebook.detach(), strict=True)])
    else:
        found = _top(rows, codebook.detach(), k)
    return found.reshape(*z.shape[:-1], k)


@torch.library.custom_op("vqbook::top_k_codes", mutates_args=())
def _top(z: Tensor, codebook: Tensor, k: int) -> Tensor:
    """(N, D), (K, D) -> (N, k). An operator of its own, so that `torch.compile` passes it by unopened."""
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False), undivided(z.device) as threads:
        if not torch.isfinite(codebook).all():
            raise ValueError("codebook holds NaN or infinite values")
        scan = _Scan(z, codebook, threads)
        if k > 1:
            codes, doubt = scan.blocked(k)
        elif search_triton.usable(z):
            codes, doubt = scan.fused()
        elif len(codebook) > 2 * _GROUPS:
            codes, doubt = scan.grouped()
        else:
            codes, doubt = scan.blocked(1)
        rows = doubt.nonzero().squeeze(-1)
        codes[rows] = settle(z, codebook, rows, k)
    return codes


@_top.register_fake
def _(z: Tensor, codebook: Tensor, k: int) -> Tensor:
    return z.new_empty((z.shape[0], k), dtype=torch.int64)


class _Scan:
    """The ranking by rounded scores: winners, and the rows whose winners are in doubt."""

    def __init__(self, z: Tensor, codebook: Tensor, threads: int) -> None:
        self.z, self.threads = z, threads
        self.dtype = torch.promote_types(torch.promote_types(z.dtype, codebook.dtype), torch.float32)
        self.centre, self.codes, self.bias = (t.to(self.dtype) for t in centred(codebook))

    def in_doubt(self, z_norm: Tensor, margin: Tensor, eps: float) -> Tensor:
        """Could rounding have decided? A margin that is no number counts as doubt."""
        bound = rounding_bound(z_norm, self.bias, dim=self.codes.shape[1], eps=eps)
        return ~(margin > bound)

    def fused(self) -> tuple[Tensor, Tensor]:
        best, second, code, z_norm = search_triton.scan(self.z, self.codes, self.bias, self.centre)
        return code.unsqueeze(-1), self.in_doubt(z_norm, best - second, search_triton.EPS)

    def grouped(self) -> tuple[Tensor, Tensor]:
        """The nearest code alone, by groups; needs more than 2 * _GROUPS codes."""
        total, blocks = len(self.z), _code_blocks(self.codes, self.bias)
        width = blocks[0][1].shape[0]
        rows = max(1, _ENTRIES // width)
        share = total // (rows * self.threads)
        step = min(total, rows * min(max(share, 1), _BLOCKS))
        codes = torch.empty(total, 1, dtype=torch.int64, device=self.z.device)
        doubt = torch.empty(total, dtype=torch.bool, device=self.z.device)
        eps = _product_eps(self.dtype)

        def work(starts: Iterator[int]) -> None:
            desk = None
            for start in starts:
                n = min(step, total - start)
                if desk is None or len(desk.z) != n:
                    desk = _Desk(self.codes, n, rows, width)
                torch.sub(self.z[start : start + n], self.centre, out=desk.z)
                desk.nearest(blocks)
                codes[start : start + n] = desk.code
                margin, z_norm = desk.best - desk.second, torch.linalg.vector_norm(desk.z, dim=-1)
                doubt[start : start + n] = self.in_doubt(z_norm, margin.squeeze(1), eps)

        in_threads(work, range(0, total, max(step, 1)), threads=self.threads)
        return codes, doubt

    def blocked(self, k: int) -> tuple[Tensor, Tensor]:
        total, dim = self.z.shape
        blocks = _code_blocks(self.codes, self.bias)
        width = blocks[0][1].shape[0]
        step = max(1, min(_ENTRIES // width, total))
        codes = torch.empty(total, k, dtype=torch.int64, device=self.z.device)
        doubt = torch.empty(total, dtype=torch.bool, device=self.z.device)
        eps = _product_eps(self.dtype)

        def work(starts: Iterator[int]) -> None:
            shifted, scores = self.codes.new_empty(step, dim), self.codes.new_empty(step, width)
            for start in starts:
                n = min(step, total - start)
                z = torch.sub(self.z[start : start + n], self.centre, out=shifted[:n])
                kept = []  # per block of codes: (n, k + 1) best scores and (n, k) codes
                for first, bias, codes_t in blocks:
                    values, found = _best(torch.addmm(bias, z, codes_t, out=scores[:n]), k)
                    kept.append((values, found + first))
                values, found = kept[0] if len(kept) == 1 else _merge(kept, k)
                codes[start : start + n] = found
                margin = (values[:, :-1] - values[:, 1:]).amin(-1)
                doubt[start : start + n] = self.in_doubt(torch.linalg.vector_norm(z, dim=-1), margin, eps)

        in_threads(work, range(0, total, step), threads=self.threads)
        return codes, doubt


class _Desk:
    """One thread's memory for n vectors, and the ranking of their codes in it.

    Attributes:
        z: the shifted vectors, (n, D).
        best, second: highest score and runner-up, (n, 1).
        code: whose score is best, (n, 1).
    """

    def __init__(self, like: Tensor, n: int, rows: int, width: int) -> None:
        deep = width // _GROUPS
        self.z, self.tops, self.inside = (
            like.new_empty(n, like.shape[1]),
            like.new_empty(n, _GROUPS),
            like.new_empty(n, deep, 1),
        )
        self.top, self.group = like.new_empty(n, 1), like.new_empty(n, 1, dtype=torch.int64)
        self.best, self.second, self.code = self.top, self.top, self.group
        scores = like.new_empty(min(rows, n), width)
        whole = (
            self.z,
            self.tops,
            self.top,
            self.group,
            self.group.unsqueeze(1).expand(-1, deep, -1),
            self.inside,
        )
        # What a block of vectors needs is cut out once, not again for each block of codes.
        # Column c belongs to group c % 32: the maximum over the middle axis runs along the vector registers.
        self.cuts = [
            (scores[: len(cut[0])], scores[: len(cut[0])].view(-1, deep, _GROUPS), *cut)
            for cut in zip(*(t.split(rows) for t in whole), strict=True)
        ]

    def nearest(self, blocks: list[tuple[int, Tensor, Tensor]]) -> None:
        """Fill best, second and code for the vectors that lie in `z`."""
        for first, bias, codes_t in blocks:
            for scores, groups, z, tops, top, group, pick, inside in self.cuts:
                torch.addmm(bias, z, codes_t, out=scores)
                torch.amax(groups, 1, out=tops)
                torch.max(tops, 1, keepdim=True, out=(top, group))
                torch.gather(groups, 2, pick, out=inside)
            rivals = self.inside.squeeze(2)
            place = rivals.argmax(1, keepdim=True)
            # The runner-up leads another group, or stands second in the winner's own.
            others = self.tops.scatter_(1, self.group, -torch.inf).amax(1, keepdim=True)
            second = torch.maximum(others, rivals.scatter_(1, place, -torch.inf).amax(1, keepdim=True))
            code = place.mul_(_GROUPS).add_(self.group).add_(first)
            if first == 0:
                self.best, self.second, self.code = self.top.clone(), second, code
            else:
                self.code = torch.where(self.top > self.best, code, self.code)
                self.second = torch.maximum(
                    torch.maximum(self.second, second), torch.minimum(self.best, self.top)
                )
                self.best = torch.maximum(self.best, self.top)


def _code_blocks(codes: Tensor, bias: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Cut the codebook into equal blocks (first code, bias, transposed codes); pad with scores of -inf."""
    num_codes, dim = codes.shape
    count = -(-num_codes // _CODES)
    width = -(-num_codes // count)
    if width > 2 * _GROUPS:
        width = -(-width // _GROUPS) * _GROUPS
    padding = count * width - num_codes
    codes = torch.cat([codes, codes.new_zeros(padding, dim)])
    bias = torch.cat([bias, bias.new_full((padding,), -torch.inf)])
    pairs = zip(bias.split(width), codes.split(width), strict=True)
    return [(i * width, b, c.T) for i, (b, c) in enumerate(pairs)]


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k + 1 highest scores of each row, (n, k + 1), and the columns of the first k, (n, k)."""
    n, width = scores.shape
    if width <= 2 * _GROUPS or k >= _GROUPS:
        return _first(scores, k)
    groups = scores.view(n, width // _GROUPS, _GROUPS)
    tops = groups.amax(1)  # (n, groups)
    # The k + 1 best codes stand in the k + 1 best groups.
    chosen = tops.topk(k + 1).indices  # (n, k + 1)
    inside = groups.gather(2, chosen.unsqueeze(1).expand(-1, groups.shape[1], -1)).flatten(1)
    values, place = _first(inside, k)
    return values, place // (k + 1) * _GROUPS + chosen.gather(1, place % (k + 1))


def _first(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `_best`, without groups; -inf stands for a rank that does not exist."""
    if k == 1:
        top, place = scores.max(1, keepdim=True)
        return torch.cat([top, scores.scatter(1, place, -torch.inf).amax(1, keepdim=True)], 1), place
    missing = k + 1 - scores.shape[1]
    if missing > 0:
        scores = torch.cat([scores, scores.new_full((len(scores), missing), -torch.inf)], 1)
    values, places = scores.topk(k + 1)
    return values, places[:, :k]


def _merge(kept: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """One ranking out of those of all blocks of codes."""
    values = torch.cat([v for v, _ in kept], 1)  # (n, blocks * (k + 1))
    codes = torch.cat([torch.cat([c, c[:, :1]], 1) for _, c in kept], 1)  # the runner-up's code is not needed
    best, place = values.topk(k + 1)
    return best, codes.gather(1, place[:, :k])


def _product_eps(dtype: torch.dtype) -> float:
    """Rounding unit of a matrix product; passes in TF32 or bfloat16 may have been switched on."""
    reduced = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return 2.0**-8 if reduced else torch.finfo(dtype).eps / 2

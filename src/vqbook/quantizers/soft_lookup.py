"""Scores, softmax, a Gumbel-Softmax draw and what is read with it, in blocks of rows that stay in the cache.

The dense computation holds a dozen arrays of N x K numbers for the backward pass and streams each through memory. Here
one is kept, the draw; scores and softmax are made again. What does not change a result in float32 is not computed:
probabilities below 1e-12 are set to zero, which takes at most K times that from a row's total.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vqbook.quantizers.threads import in_threads

_ENTRIES = 1 << 18  # of an N x K array that one thread holds at a time: 1 MiB in float32
_LOWEST = -60.0  # a score so far below its row's best counts as this far: nothing becomes a denormal number
_NOTHING = 1e-12


class SoftLookup(NamedTuple):
    r"""What N queries get from K keys. With scores $\ell_{nk}$, $q = \mathrm{softmax}(\ell)$ and a draw y:

    Attributes:
        read: $\sum_k y_{nk} v_k$, (N, V).
        usage: $\sum_n q_{nk}$, (K,).
        score: $\sum_k q_{nk} \ell_{nk}$, (N,).
        log_total: $\log \sum_k e^{\ell_{nk}}$, (N,).
        codes: $\arg\max_k \ell_{nk}$, int64, (N,).
    """

    read: Tensor
    usage: Tensor
    score: Tensor
    log_total: Tensor
    codes: Tensor


def soft_lookup(
    queries: Tensor, keys: Tensor, bias: Tensor, values: Tensor, temperature: Tensor
) -> SoftLookup:
    r"""Scores $\ell_{nk} = z_n \cdot e_k + b_k$, and what gumbel_softmax and softmax of them give, never held whole.

    Args:
        queries: z, (N, D).
        keys: e, (K, D).
        bias: b, (K,).
        values: v, (K, V).
        temperature: τ, a scalar; no gradient reaches it.
    Returns:
        SoftLookup, differentiable once in all but the codes. Uniform noise in steps of 2^-24 comes from the global
        generator.

    Chapter 8.
    """
    return SoftLookup(*_SoftLookup.apply(queries, keys, bias, values, temperature))


class _SoftLookup(Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, bias: Tensor, values: Tensor, temperature: Tensor
    ) -> tuple[Tensor, ...]:
        y = queries.new_empty(len(queries), len(keys)).uniform_()  # (N, K), becomes noise, then the draw
        read, score = queries.new_empty(len(queries), values.shape[1]), queries.new_empty(len(queries))
        log_total, codes = (
            torch.empty_like(score),
            torch.empty(len(queries), dtype=torch.int64, device=y.device),
        )
        best = torch.empty_like(score)
        chunks = _chunks(queries)
        usage = queries.new_zeros(len(chunks), len(keys))
        cold = 1 / temperature

        def work(tasks: Iterator[int]) -> None:
            block, q = _scratch(y), _scratch(y)
            for task in tasks:
                for rows in _blocks(*chunks[task], len(block)):
                    n, noise = rows.stop - rows.start, y[rows]
                    scores = torch.addmm(bias, queries[rows], keys.T, out=block[:n])
                    top, codes[rows] = scores.max(-1)
                    best[rows] = top
                    scores.sub_(top.unsqueeze(-1)).clamp_min_(_LOWEST)
                    noise.log_().neg_().log_()  # minus a Gumbel variable
                    noisy = torch.sub(scores, noise, out=q[:n]).mul_(cold)
                    noisy.sub_(noisy.amax(-1, keepdim=True)).clamp_min_(_LOWEST)
                    draw = torch.threshold_(torch.softmax(noisy, -1, out=y[rows]), _NOTHING, 0)
                    torch.mm(draw, values, out=read[rows])
                    torch.softmax(scores, -1, out=q[:n])
                    log_total[rows] = top - q[:n].amax(-1).log()
                    torch.threshold_(q[:n], _NOTHING, 0)
                    usage[task] += q[:n].sum(0)
                    score[rows] = top + q[:n].mul_(scores).sum(-1)

        in_threads(work, range(len(chunks)), threads=len(chunks))
        ctx.save_for_backward(queries, keys, bias, values, cold, y, read, best, score)
        ctx.mark_non_differentiable(codes)
        return read, usage.sum(0), score, log_total, codes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, bias, values, cold, y, read, best, score = ctx.saved_tensors
        g_read, g_usage, g_score, g_total, _ = grads
        g_y = g_read * cold
        chunks = _chunks(queries)
        d_queries = torch.empty_like(queries)
        d_keys = queries.new_zeros(len(chunks), *keys.T.shape)  # transposed: these products are faster so
        d_bias = queries.new_zeros(len(chunks), *bias.shape)
        d_values = queries.new_zeros(len(chunks), *values.T.shape)
        mean_y = (g_y * read).sum(-1, keepdim=True)  # (N, 1)
        rest = (g_score * (1 - score + best) + g_total).unsqueeze(-1)  # with scores as from the row's best

        def work(tasks: Iterator[int]) -> None:
            block, other = _scratch(y), _scratch(y)
            for task in tasks:
                for rows in _blocks(*chunks[task], len(block)):
                    n = rows.stop - rows.start
                    scores = torch.addmm(bias, queries[rows], keys.T, out=block[:n])
                    scores.sub_(best[rows].unsqueeze(-1)).clamp_min_(_LOWEST)
                    q = torch.threshold_(torch.softmax(scores, -1, out=other[:n]), _NOTHING, 0)
                    shift = rest[rows] - (q @ g_usage).unsqueeze(-1)
                    scores.mul_(g_score[rows].unsqueeze(-1)).add_(g_usage).add_(shift).mul_(q)
                    d_y = torch.mm(g_y[rows], values.T, out=other[:n]).sub_(mean_y[rows])
                    d_scores = scores.addcmul_(d_y, y[rows])
                    torch.mm(d_scores, keys, out=d_queries[rows])
                    d_keys[task].addmm_(queries[rows].T, d_scores)
                    d_bias[task] += d_scores.sum(0)
                    d_values[task].addmm_(g_read[rows].T, y[rows])

        in_threads(work, range(len(chunks)), threads=len(chunks))
        return d_queries, d_keys.sum(0).T, d_bias.sum(0), d_values.sum(0).T, None


def _on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _chunks(queries: Tensor) -> list[tuple[int, int]]:
    """Rows shared out to the threads, always alike: sums come out the same, bit for bit."""
    rows = len(queries)
    share = -(-rows // (torch.get_num_threads() if _on_cpu(queries) else 1))
    return [(start, min(start + share, rows)) for start in range(0, rows, share)]


def _scratch(y: Tensor) -> Tensor:
    """Room for a block of rows; elsewhere than on a CPU for all."""
    rows = max(1, _ENTRIES // y.shape[1]) if _on_cpu(y) else len(y)
    return y.new_empty(min(rows, len(y)), y.shape[1])


def _blocks(start: int, end: int, step: int) -> Iterator[slice]:
    for first in range(start, end, step):
        yield slice(first, min(first + step, end))

"""What several processes must agree on. In a single process each function does nothing or costs nothing.

Statistics of the *global* batch (the batches of all ranks, rank 0's first) are made here, so that training on several
processes gives the codebook that one process would give on the whole batch. All ranks must call together. The gradient
of a codebook that is a parameter is no business of this module: DistributedDataParallel averages it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together: 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(x: Tensor) -> Tensor:
    """Sum of a tensor over all ranks, without gradient; in a single process the tensor itself.

    Args:
        x: of one shape on all ranks.
    """
    if world_size() == 1:
        return x.detach()
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def all_mean(total: Tensor, rows: int) -> Tensor:
    """Mean over the rows of all ranks, with the gradient that DistributedDataParallel expects of each.

    It averages gradients over ranks. So each rank's share of the mean is differentiated as if it counted once for each
    rank; nothing is exchanged in the backward pass.

    Args:
        total: sum of this rank's rows, of one shape on all ranks.
        rows: how many these are; ranks may differ.
    Returns:
        The shape of `total`, in value the same on all ranks up to rounding.
    """
    ranks = world_size()
    if ranks == 1:
        return total / rows
    share = total / place(rows, total.device)[1]
    return ranks * share + (all_sum(share) - ranks * share).detach()


def from_first(x: Tensor) -> Tensor:
    """The tensor that rank 0 holds, for a draw that must be one and the same everywhere.

    Args:
        x: of one shape on all ranks.
    """
    if world_size() == 1:
        return x
    copy = x.detach().clone()
    dist.broadcast(copy, src=0)
    return copy


def place(rows: int, device: torch.device) -> tuple[int, int]:
    """Where this rank's rows lie in the global batch.

    Args:
        rows: how many this rank holds; ranks may differ.
        device: on which the process group can work.
    Returns:
        (index of this rank's first row, rows of all ranks together).
    """
    if world_size() == 1:
        return 0, rows
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=device)
    sizes[dist.get_rank()] = rows
    dist.all_reduce(sizes)
    return int(sizes[: dist.get_rank()].sum()), int(sizes.sum())


def global_rows(x: Tensor, index: Tensor, start: int) -> Tensor:
    """Rows of the global batch by their global index: each rank fills in those that it holds.

    Args:
        x: this rank's rows, (n, ...).
        index: global indices, the same on all ranks, int64, (m,).
        start: global index of this rank's first row, from place().
    Returns:
        (m, ...), the same on all ranks, without gradient.
    """
    local = index.to(x.device) - start
    if world_size() == 1:
        return x.detach()[local]
    rows = x.new_zeros(len(index), *x.shape[1:])
    mine = (local >= 0) & (local < len(x))
    rows[mine] = x.detach()[local[mine]]
    return all_sum(rows)

"""What test_distributed.py launches: train quantizers on this rank's share of each batch, save what came out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vqbook.quantizers import (
    AffineVectorQuantizer,
    Alternating,
    CosineVectorQuantizer,
    EMAVectorQuantizer,
    GaussianMixtureQuantizer,
    PricedVectorQuantizer,
    Revival,
    VectorQuantizer,
)

K, D, N = 24, 4, 96


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(rank: int, world: int, *, cut: int) -> Iterator[Tensor]:
    """Six batches in few places, so that codes die; of two ranks the first holds the rows up to `cut`."""
    centres = 3 * torch.randn(6, D, generator=rng(1))
    for step in range(6):
        whole = centres[torch.randint(4, (N,), generator=rng(step)) + step // 3]
        whole = whole + 0.1 * torch.randn(N, D, generator=rng(100 + step))
        yield whole if world == 1 else whole[:cut] if rank == 0 else whole[cut:]


def learned_by_averages(quantizer: nn.Module, rank: int, world: int) -> dict[str, Tensor]:
    """Shares of unequal size: statistics must be those of the whole batch all the same."""
    usage = torch.zeros(K, dtype=torch.int64)
    for step, z in enumerate(batches(rank, world, cut=N // 4)):
        if step == 0:
            quantizer.initialise(z, rng(7 + rank))  # rank 0's generator must count
        usage += quantizer(z).usage
    return {"usage": usage, **quantizer.state_dict()}


def learned_by_gradients(quantizer: nn.Module, rank: int, world: int) -> dict[str, Tensor]:
    """Shares of equal size: DistributedDataParallel averages the gradients."""
    model = quantizer if world == 1 else DistributedDataParallel(quantizer)
    optimiser = torch.optim.SGD(model.parameters(), lr=5.0)
    for z in batches(rank, world, cut=N // 2):
        optimiser.zero_grad()
        model(z).terms["codebook"].backward()
        optimiser.step()
    return dict(quantizer.state_dict())


def learned_from_the_aggregate(rank: int, world: int, *, ema: float | None = None) -> dict[str, Tensor]:
    """The code term is one of the whole batch, and its gradient reaches encoder, means and weights."""
    encoder = nn.Linear(D, D)
    torch.nn.init.eye_(encoder.weight)
    torch.nn.init.zeros_(encoder.bias)
    quantizer = GaussianMixtureQuantizer(K, D, spread=20.0, ema=ema, generator=rng(0))
    whole = nn.Sequential(encoder, quantizer)
    model = whole if world == 1 else DistributedDataParallel(whole)
    optimiser, values = torch.optim.SGD(whole.parameters(), lr=0.05), []
    for step, z in enumerate(batches(rank, world, cut=N // 2)):
        if step == 0:
            quantizer.initialise(z, rng(7 + rank))
        optimiser.zero_grad()
        terms = model(z).terms
        (terms["aggregate_kl"] + 0.01 * terms["distance"]).backward()
        values.append(terms["aggregate_kl"].detach())
        optimiser.step()
    # both ranks have one value up to the rounding of its last digits
    return {"values": (1e3 * torch.stack(values)).round(), **whole.state_dict()}


def everything(rank: int, world: int) -> dict[str, Tensor]:
    found = {
        "ema": learned_by_averages(
            Revival(EMAVectorQuantizer(K, D, decay=0.8, generator=rng(0)), timeout=2), rank, world
        ),
        "opt": learned_by_averages(
            Alternating(AffineVectorQuantizer(K, D, statistics="running", generator=rng(0)), lr=2.0),
            rank,
            world,
        ),
        "cosine": learned_by_averages(
            Revival(CosineVectorQuantizer(K, D, generator=rng(0)), timeout=1), rank, world
        ),
        "plain": learned_by_gradients(
            Revival(VectorQuantizer(K, D, generator=rng(0)), timeout=2), rank, world
        ),
        "priced": learned_by_averages(PricedVectorQuantizer(K, D, beta=0.1, generator=rng(0)), rank, world),
        "gmvq": learned_from_the_aggregate(rank, world),
        "gmvq, ema": learned_from_the_aggregate(rank, world, ema=0.7),
    }
    return {f"{name}.{key}": value for name, parts in found.items() for key, value in parts.items()}


if __name__ == "__main__":
    from accelerate import PartialState

    state = PartialState(cpu=True)  # a gloo process group, whichever launcher set the environment
    torch.save(
        everything(state.process_index, state.num_processes), Path(sys.argv[1]) / f"{state.process_index}.pt"
    )
    state.destroy_process_group()

"""k-means by Lloyd's algorithm: the first vector quantizer."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vqbook.quantizers.distributed import from_first, global_rows, place
from vqbook.quantizers.search import nearest_code


class KMeans(NamedTuple):
    """A fitted codebook.

    Attributes:
        centroids: (K, D).
        codes: nearest centroid of each vector, int64, (N,).
        distortion: mean squared distance of a vector to its centroid; entry t is after t iterations, so
            entry 0 belongs to the initial centroids and the last one to `centroids` and `codes`.
    """

    centroids: Tensor
    codes: Tensor
    distortion: list[float]


@torch.no_grad()
def kmeans(
    x: Tensor,
    num_codes: int,
    *,
    iterations: int = 20,
    generator: torch.Generator | None = None,
    init: Literal["sample", "++"] = "sample",
) -> KMeans:
    r"""Lower the distortion by turns: each vector takes its nearest centroid, each centroid its vectors'
    mean.

    $D = \frac1N \sum_n \lVert x_n - \mu_{k(n)} \rVert^2$

    Neither step can raise D. A centroid without vectors stays where it is. Stops early at a fixed point.

    Args:
        x: vectors, (N, D).
        num_codes: K, at most N.
        iterations: the most iterations.
        generator: source of the initial centroids, on the CPU.
        init: "sample" takes K different vectors at random; "++" takes each next one with probability
            proportional to its squared distance from those already taken (Arthur and Vassilvitskii, 2007).
    Returns:
        KMeans(centroids, codes, distortion).
    Raises:
        ValueError: fewer vectors than codes, a wrong shape, or an unknown init.

    Lloyd, 1982; chapter 1.
    """
    if x.ndim != 2:
        raise ValueError(f"x must be (N, D), got {tuple(x.shape)}")
    if not 1 <= num_codes <= len(x):
        raise ValueError(f"num_codes must lie between 1 and the {len(x)} vectors of x, got {num_codes}")
    if iterations < 0:
        raise ValueError(f"iterations must be 0 or more, got {iterations}")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    if init == "sample":
        centroids = x[torch.randperm(len(x), generator=generator)[:num_codes].to(x.device)].clone()
    elif init == "++":
        centroids = _plus_plus(x, num_codes, generator)
    else:
        raise ValueError(f'init must be "sample" or "++", got {init!r}')

    codes = nearest_code(x, centroids)
    distortion = [_distortion(x, centroids, codes)]
    for _ in range(iterations):
        counts = torch.bincount(codes, minlength=num_codes)  # (K,)
        sums = cluster_sums(x, codes, num_codes)  # (K, D)
        means = sums / counts.clamp_min(1).unsqueeze(-1)
        centroids = torch.where((counts > 0).unsqueeze(-1), means, centroids)
        before, codes = codes, nearest_code(x, centroids)
        distortion.append(_distortion(x, centroids, codes))
        if torch.equal(before, codes):
            break
    return KMeans(centroids, codes, distortion)


@torch.no_grad()
def kmeans_start(z: Tensor, num_codes: int, generator: torch.Generator | None = None) -> Tensor:
    """Codes to start from: k-means on a sample of vectors.

    On several processes the sample comes from the vectors of all of them, and all must call; rank 0's generator counts.

    Args:
        z: (..., D), at least K vectors; at most 64 for each code are used.
        num_codes: K.
        generator: source of the sample and of the k-means seeds, on the CPU.
    Returns:
        (K, D), float32, the same on all ranks.
    Raises:
        ValueError: fewer vectors than codes.
    """
    flat = z.detach().float().reshape(-1, z.shape[-1])
    start, total = place(len(flat), flat.device)
    chosen = torch.randperm(total, generator=generator)[: 64 * num_codes].to(flat.device)
    sample = global_rows(flat, from_first(chosen), start).cpu()
    found = kmeans(sample, num_codes, iterations=10, generator=generator)
    return from_first(found.centroids.to(flat.device))


@torch.no_grad()
def cluster_sums(z: Tensor, codes: Tensor, num_codes: int) -> Tensor:
    r"""Sum of the vectors that chose each code: $s_k = \sum_{n:\,k(n)=k} z_n$, added in the order of n.

    Args:
        z: vectors, (..., D).
        codes: their codes, int64, (...).
        num_codes: K.
    Returns:
        (K, D). No N x K matrix is made.
    """
    flat = z.detach().reshape(-1, z.shape[-1])
    return flat.new_zeros(num_codes, flat.shape[1]).index_add_(0, codes.reshape(-1), flat)


def _distortion(x: Tensor, centroids: Tensor, codes: Tensor) -> float:
    return (x - centroids[codes]).square().sum(-1).double().mean().item()


def _plus_plus(x: Tensor, num_codes: int, generator: torch.Generator | None) -> Tensor:
    first = int(torch.randint(len(x), (1,), generator=generator))
    taken = [first]
    sq_dist = (x - x[first]).square().sum(-1).double().cpu()  # (N,)
    for _ in range(num_codes - 1):
        total = sq_dist.cumsum(0)
        if total[-1] > 0:
            target = torch.rand(1, generator=generator, dtype=torch.float64) * total[-1]
            # right=True: a vector at distance zero owns an interval of length zero and is never taken again
            chosen = int(torch.searchsorted(total, target, right=True).clamp_max(len(x) - 1))
        else:  # every vector is a centroid already
            chosen = int(torch.randint(len(x), (1,), generator=generator))
        taken.append(chosen)
        sq_dist = torch.minimum(sq_dist, (x - x[chosen]).square().sum(-1).double().cpu())
    return x[torch.tensor(taken, device=x.device)].clone()

"""Coders that pay for their bits: k-means with a price on names, and scalars on rotated axes (chapter 1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vqbook.quantizers import kmeans, nearest_code
from vqbook.quantizers.kmeans import cluster_sums


class Priced(NamedTuple):
    """A codebook whose names have lengths.

    Attributes:
        codebook: (K, D).
        bits: length of each code's name, (K,).
        price: squared error that one bit is worth.
    """

    codebook: Tensor
    bits: Tensor
    price: float

    def encode(self, x: Tensor) -> Tensor:
        r"""Vectors (N, D) -> the codes that cost least, $\arg\min_k \lVert x - e_k \rVert^2 + \lambda \ell_k$, (N,).

        The price is the square of one more coordinate, zero in x and $\sqrt{\lambda \ell_k}$ in the code.
        """
        toll = (self.price * self.bits).sqrt()[:, None]  # (K, 1)
        return nearest_code(torch.cat([x, x.new_zeros(len(x), 1)], 1), torch.cat([self.codebook, toll], 1))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N,) -> vectors (N, D)."""
        return self.codebook[codes]


def priced_kmeans(x: Tensor, codebook: Tensor, price: float, *, iterations: int = 20) -> Priced:
    r"""Lloyd's algorithm with a price on bits: lower $d + \lambda H$ instead of $d$.

    By turns each vector takes the code that costs least, each code its vectors' mean, and each name the length
    $\ell_k = -\log_2 p_k$ of its frequency. None of the three can raise the sum. Codes that nobody takes leave.

    Args:
        x: vectors, (N, D).
        codebook: where to start, (K, D), all names equally long.
        price: λ, squared error for one bit, 0 or more; 0 is plain Lloyd.
        iterations: at most; it stops where nothing moves any more.
    Returns:
        Priced(codebook, bits, price), with at most K codes.
    Raises:
        ValueError: a negative price, or x and codebook that do not fit.

    Chou, Lookabaugh and Gray, 1989; chapter 1.
    """
    if price < 0:
        raise ValueError(f"price must be 0 or more, got {price}")
    if x.ndim != 2 or codebook.ndim != 2 or x.shape[1] != codebook.shape[1]:
        raise ValueError(
            f"x must be (N, D) and codebook (K, D), got {tuple(x.shape)} and {tuple(codebook.shape)}"
        )
    found = Priced(codebook, codebook.new_full((len(codebook),), math.log2(len(codebook))), price)
    for _ in range(iterations):
        codes = found.encode(x)
        counts = torch.bincount(codes, minlength=len(found.codebook))  # (K,)
        sums = cluster_sums(x, codes, len(found.codebook))  # (K, D)
        live = counts > 0
        frequency = counts[live] / len(x)
        before, found = found, Priced(sums[live] / counts[live, None], -frequency.log2(), price)
        if torch.equal(before.codebook, found.codebook) and torch.equal(before.bits, found.bits):
            break
    return found


class RotatedScalars(NamedTuple):
    """A transform coder: the vector in its principal axes, each coordinate on a priced scale of its own.

    Attributes:
        mean: (D,).
        axes: principal axes in rows, the one of largest variance first, (D, D).
        scales: one for each axis, codebooks (K_d, 1); a scale of one level costs nothing.
    """

    mean: Tensor
    axes: Tensor
    scales: list[Priced]

    def encode(self, x: Tensor) -> Tensor:
        """Vectors (N, D) -> levels (N, D), int64."""
        y = (x - self.mean) @ self.axes.T
        return torch.stack([scale.encode(y[:, [d]]) for d, scale in enumerate(self.scales)], 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Levels (N, D) -> vectors (N, D)."""
        columns = [scale.decode(codes[:, d]) for d, scale in enumerate(self.scales)]
        return torch.cat(columns, 1) @ self.axes + self.mean


def rotated_scalars(x: Tensor, price: float, *, levels: int = 12, iterations: int = 300) -> RotatedScalars:
    """Fit a transform coder: rotate to the principal axes, then price each axis alone.

    One price for all axes shares out the bits: each axis takes bits as long as one of them saves more than λ.

    Args:
        x: vectors, (N, D).
        price: λ, squared error for one bit.
        levels: of each scale at the start; the price leaves as many as pay.
        iterations: of each scale's Lloyd, at most: on large samples scales settle slowly.
    Returns:
        RotatedScalars.
    """
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).double().T @ (x - mean).double())
    axes = vectors.flip(1).T.to(x.dtype)  # rows, largest variance first
    y = (x - mean) @ axes.T
    scales = []
    for d in range(x.shape[1]):
        column = y[:, [d]]
        start = torch.linspace(float(column.min()), float(column.max()), levels)[:, None].to(x)
        scales.append(priced_kmeans(column, start, price, iterations=iterations))
    return RotatedScalars(mean, axes, scales)


def mean_colours(x: Tensor, levels: int, *, channels: int = 3, generator: torch.Generator) -> Tensor:
    """Codes of one flat colour each: every channel's mean on a scale of a few levels.

    Args:
        x: patches, channels first, (N, channels * pixels).
        levels: of each channel.
        channels: 3 for colour, 1 for grey.
        generator: source of the scales' first levels.
    Returns:
        Codebook, (levels ** channels, channels * pixels).
    """
    means = x.reshape(len(x), channels, -1).mean(-1)  # (N, channels)
    scales = [kmeans(means[:, [c]], levels, generator=generator).centroids[:, 0] for c in range(channels)]
    colours = torch.cartesian_prod(*scales).reshape(-1, channels)
    return colours.repeat_interleave(x.shape[1] // channels, dim=1)

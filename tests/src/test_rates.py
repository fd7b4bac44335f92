"""Coders that pay for bits: descent, the price, the rotation."""

from __future__ import annotations

import itertools

import pytest
import torch

from vqbook.metrics import entropy_bits
from vqbook.quantizers import kmeans
from vqbook.rates import mean_colours, priced_kmeans, rotated_scalars


@pytest.fixture
def cloud() -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(2_000, 3) @ torch.tensor([[2.0, 0, 0], [1.5, 0.5, 0], [0, 0, 0.1]])).double()


def test_encode_is_the_argmin_of_error_plus_price(cloud: torch.Tensor) -> None:
    priced = priced_kmeans(cloud, cloud[:32], 0.2, iterations=5)
    cost = torch.cdist(cloud, priced.codebook).square() + 0.2 * priced.bits
    assert torch.equal(priced.encode(cloud), cost.argmin(1))


def test_price_zero_is_lloyd(cloud: torch.Tensor) -> None:
    start = kmeans(cloud, 8, iterations=0, generator=torch.Generator().manual_seed(1)).centroids
    lloyd = kmeans(cloud, 8, iterations=6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(priced_kmeans(cloud, start, 0.0, iterations=6).codebook, lloyd.centroids)


def test_sum_never_rises_and_bits_fall_with_the_price(cloud: torch.Tensor) -> None:
    def costs(price: float, iterations: int) -> tuple[float, float]:
        priced = priced_kmeans(cloud, cloud[:64], price, iterations=iterations)
        codes = priced.encode(cloud)
        error = (cloud - priced.decode(codes)).square().sum(-1).mean().item()
        return error + price * priced.bits[codes].mean().item(), entropy_bits(torch.bincount(codes)).item()

    sums = [costs(0.3, n)[0] for n in range(8)]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(sums))
    bits = [costs(price, 15)[1] for price in (0.01, 0.1, 1.0)]
    assert bits == sorted(bits, reverse=True)
    assert len(priced_kmeans(cloud, cloud[:64], 1e6).bits) == 1  # nothing is worth a bit


def test_rotation_leaves_faint_axes_without_bits(cloud: torch.Tensor) -> None:
    coder = rotated_scalars(cloud, 0.2)
    torch.testing.assert_close(coder.axes @ coder.axes.T, torch.eye(3).double(), atol=1e-10, rtol=0)
    assert [len(scale.bits) > 1 for scale in coder.scales] == [True, True, False]
    codes = coder.encode(cloud)
    assert codes.shape == (2_000, 3) and codes.dtype == torch.int64
    error = (cloud - coder.decode(codes)).square().mean()
    assert error < 0.1 * cloud.var()
    scaled = rotated_scalars(10 * cloud, 20.0)  # the price is in units of squared error
    torch.testing.assert_close(scaled.decode(scaled.encode(10 * cloud)), 10 * coder.decode(codes))


def test_mean_colours_are_flat() -> None:
    x = torch.rand(500, 48)
    colours = mean_colours(x, 3, generator=torch.Generator().manual_seed(0))
    assert colours.shape == (27, 48)
    assert torch.equal(colours.reshape(27, 3, 16).std(-1), torch.zeros(27, 3))


def test_what_does_not_fit_is_named(cloud: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="price"):
        priced_kmeans(cloud, cloud[:4], -1.0)
    with pytest.raises(ValueError, match="codebook"):
        priced_kmeans(cloud, cloud[:4, :2], 1.0)

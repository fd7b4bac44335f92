from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vqbook.quantizers import PricedVectorQuantizer, nearest_code


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lopsided(rows: int = 4000) -> Tensor:
    """Most vectors lie in one corner."""
    z = torch.randn(rows, 2, generator=rng(1))
    z[: rows * 3 // 4] *= 0.3
    return z


def traded(beta: float, *, codes: int = 8, rounds: int = 1500) -> tuple[PricedVectorQuantizer, Tensor]:
    """Prices on fixed vectors and fixed codes, in steps that grow smaller."""
    quantizer = PricedVectorQuantizer(codes, 2, beta=beta)
    z = lopsided()
    with torch.no_grad():
        quantizer.codebook.copy_(torch.randn(codes, 2, generator=rng(2)))
    for t in range(rounds):
        quantizer.price_lr = 0.2 / (1 + t / 50)
        quantizer(z)
    return quantizer, z


def costs(quantizer: PricedVectorQuantizer, z: Tensor) -> Tensor:
    return torch.cdist(z.double(), quantizer.codebook.detach().double()).square()  # (N, K)


def dual(prices: Tensor, cost: Tensor, beta: float) -> Tensor:
    """What the prices minimise: an upper bound on minus the primal, from the definition."""
    return (-cost - prices).amax(1).mean() + beta * ((prices / beta).logsumexp(0) - math.log(len(prices)))


def primal(codes: Tensor, cost: Tensor, beta: float) -> Tensor:
    share = torch.bincount(codes, minlength=cost.shape[1]).double() / len(codes)
    entropy = torch.special.entr(share).sum()
    return cost[torch.arange(len(codes)), codes].mean() + beta * (math.log(cost.shape[1]) - entropy)


@pytest.mark.parametrize("beta", [0.05, 0.3, 2.0])
def test_prices_come_to_the_optimum_of_the_dual(beta: float) -> None:
    quantizer, z = traded(beta)
    cost = costs(quantizer, z)
    best = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([best], lr=0.02)
    for t in range(3000):
        optimiser.param_groups[0]["lr"] = 0.02 / (1 + t / 100)
        optimiser.zero_grad()
        dual(best, cost, beta).backward()
        optimiser.step()
    found, optimum = dual(quantizer.prices.double(), cost, beta), dual(best, cost, beta)
    assert found == pytest.approx(float(optimum.detach()), abs=1e-4)
    assert primal(quantizer.eval()(z).codes, cost, beta) == pytest.approx(-float(found), abs=2e-3)


def test_a_price_is_what_optimality_says() -> None:
    """v_k = beta log(share of k / uniform) up to a constant."""
    quantizer, z = traded(0.3)
    share = quantizer.eval()(z).usage / len(z)
    want = 0.3 * (share * 8).log()
    torch.testing.assert_close(
        quantizer.prices - quantizer.prices.mean(), want - want.mean(), atol=0.02, rtol=0
    )


def test_a_high_beta_shares_the_vectors_out_evenly() -> None:
    quantizer, z = traded(1e4)
    usage = quantizer.eval()(z).usage
    assert usage.sum() == len(z)
    assert (usage - len(z) / 8).abs().max() <= 0.02 * len(z) / 8


@pytest.mark.parametrize("beta", [0.0, 1e-7])
def test_a_beta_of_nothing_leaves_the_nearest_code(beta: float) -> None:
    quantizer, z = traded(beta, rounds=50)
    assert torch.equal(quantizer.eval()(z).codes, nearest_code(z, quantizer.codebook))


def test_prices_move_in_training_alone_and_are_kept() -> None:
    quantizer = PricedVectorQuantizer(8, 2, beta=0.5, generator=rng(0))
    quantizer.eval()(lopsided())
    assert not quantizer.prices.any()
    out = quantizer.train()(lopsided().requires_grad_())
    assert quantizer.prices.any() and not quantizer.prices.requires_grad
    assert abs(quantizer.prices.sum()) < 1e-5
    assert set(out.terms) == {"codebook", "commitment"}
    again = PricedVectorQuantizer(8, 2, beta=0.5)
    again.load_state_dict(quantizer.state_dict())
    assert torch.equal(again.eval()(lopsided()).codes, quantizer.eval()(lopsided()).codes)


@pytest.mark.parametrize("settings", [{"beta": -1.0}, {"beta": math.inf}, {"beta": 1.0, "price_lr": 0.0}])
def test_bad_settings_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="beta must be"):
        PricedVectorQuantizer(4, 2, **settings)

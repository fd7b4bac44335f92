"""Exact toy models, and what holds on them between evidence, ELBO and the readings of ALBO."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from vqbook.enumerable import (
    MixtureToy,
    batch_aggregate_kl,
    clear_market,
    code_bounds,
    code_posterior,
    information_chain,
    market_dual,
    market_primal,
    mixture_bounds,
    normal_log_density,
)
from vqbook.vae import elbo_surgery


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def code_toy(n=12, K=5):
    """log p(x | c) of n inputs and log p(c): columns of a table with more values of x than these n."""
    table = torch.randn(K, n + 3).log_softmax(-1)[:, :n]
    return table.T, torch.randn(K).log_softmax(0)


def kl(a, b):
    return (a * (a / b).log()).sum(-1)


def test_average_code_kl_is_information_plus_marginal():
    for _ in range(100):
        q, prior = torch.randn(12, 5).softmax(-1), torch.randn(5).softmax(0)
        information = kl(q, q.mean(0)).mean()
        assert kl(q, prior).mean() - information - kl(q.mean(0), prior) == pytest.approx(0, abs=1e-12)


def test_albo_is_elbo_plus_information_and_overshoots_by_it_at_the_posterior():
    for _ in range(100):
        log_lik, log_prior = code_toy()
        for q in (torch.randn(12, 5).softmax(-1), code_posterior(log_lik, log_prior)):
            bounds = code_bounds(q, log_lik, log_prior)
            torch.testing.assert_close(bounds.albo, bounds.elbo + bounds.information, atol=1e-12, rtol=0)
            assert bounds.elbo <= bounds.evidence + 1e-12
            assert bounds.albo - math.log(5) <= bounds.evidence
        torch.testing.assert_close(bounds.elbo, bounds.evidence, atol=1e-12, rtol=0)
        torch.testing.assert_close(bounds.albo, bounds.evidence + bounds.information, atol=1e-12, rtol=0)


def mixture_toy():
    return MixtureToy(
        torch.tensor([-1.0, 0.2, 1.5]), torch.tensor([0.5, 0.3, 0.2]).log(), 0.8, 0.4, lambda z: z + z.sin()
    )


def test_mixture_evidence_is_the_integral_over_z():
    toy, x = mixture_toy(), torch.tensor([-1.0, 0.0, 2.0, 5.0])
    z = torch.linspace(-12, 12, 60_001)
    mixture = (
        (toy.log_prior[:, None] + normal_log_density(z, toy.means[:, None], toy.sigma_z**2)).exp().sum(0)
    )
    direct = (normal_log_density(x[:, None], toy.decode(z), toy.sigma_x**2).exp() * mixture).sum(1) * (
        z[1] - z[0]
    )
    found = mixture_bounds(toy, x, torch.full((4, 3), 1 / 3), torch.full((4, 3), 0.1))
    torch.testing.assert_close(found.evidence, direct.log(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("variance", [1e-1, 1e-2, 1e-4])
def test_readings_differ_from_the_elbo_by_information_and_entropy(variance):
    toy, x = mixture_toy(), torch.tensor([-1.0, 0.0, 2.0, 5.0])
    q = torch.randn(4, 3).softmax(-1)
    b = mixture_bounds(toy, x, q, variance * (0.5 + torch.rand(4, 3)))
    information = elbo_surgery(q, toy.log_prior.exp()).mutual_information
    assert (b.principled.mean() - b.elbo.mean() - information).abs() < 1e-9
    assert (b.trained.mean() - b.elbo.mean() - information + b.entropy.mean()).abs() < 1e-9
    assert (b.elbo <= b.evidence + 1e-9).all()


def test_literal_reading_stays_below_evidence_minus_entropy():
    toy, x = mixture_toy(), torch.linspace(-3, 5, 6)
    for variance in (1.0, 0.1, 0.01, 1e-3):
        for _ in range(5):
            q = (3 * torch.randn(6, 3)).softmax(-1)
            b = mixture_bounds(toy, x, q, variance * (0.5 + torch.rand(6, 3)))
            assert (b.literal <= b.evidence - b.mixture_entropy + 1e-9).all()
            assert (b.mixture_entropy >= b.entropy - 1e-9).all()  # entropy is concave


def test_mixture_entropy_is_the_integral_over_z():
    toy = mixture_toy()
    q, variance = torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[0.3, 0.1, 0.6]])
    z = torch.linspace(-12, 12, 60_001)
    density = (q.T * normal_log_density(z, toy.means[:, None], variance.T).exp()).sum(0)
    direct = torch.special.entr(density).sum() * (z[1] - z[0])
    found = mixture_bounds(toy, torch.zeros(1), q, variance).mixture_entropy[0]
    torch.testing.assert_close(found, direct, atol=1e-8, rtol=0)


def test_the_counterexample():
    toy = MixtureToy(torch.zeros(1), torch.zeros(1), 1.0, 0.1)
    limit = 0.5 * math.log(1.01) - 0.5 * math.log(2 * math.pi) - math.log(0.1)
    assert limit == pytest.approx(1.3886, abs=5e-5)
    for s, excess in ((0.1, -3.661), (0.01, 0.884), (1e-4, 1.384), (1e-8, limit)):
        b = mixture_bounds(toy, torch.zeros(1), torch.ones(1, 1), torch.full((1, 1), s))
        assert (b.literal - b.evidence).item() == pytest.approx(excess, abs=6e-4)
        assert b.elbo <= b.evidence + 1e-12
    best = mixture_bounds(toy, torch.zeros(1), torch.ones(1, 1), torch.full((1, 1), 1 / (1 + 100)))
    torch.testing.assert_close(best.elbo, best.evidence, atol=1e-10, rtol=0)


def test_batch_aggregate_kl_against_every_ordered_batch():
    q, prior = torch.randn(3, 4).softmax(-1), torch.randn(4).softmax(0)
    for size in (1, 2, 3, 5):
        rows = torch.tensor(list(itertools.product(range(3), repeat=size)))
        torch.testing.assert_close(batch_aggregate_kl(q, prior, size), kl(q[rows].mean(1), prior).mean())


def test_batch_aggregate_kl_interpolates_between_elbo_and_albo():
    for _ in range(10):
        q, prior = (3 * torch.randn(4, 5)).softmax(-1), torch.randn(5).softmax(0)
        price, information, marginal = elbo_surgery(q, prior)
        values = [batch_aggregate_kl(q, prior, size).item() for size in (1, 2, 3, 4, 8, 16, 64)]
        assert values[0] == pytest.approx(price.item(), abs=1e-12)
        assert all(a > b for a, b in itertools.pairwise(values))
        assert values[-1] > marginal
        for size, value in zip((1, 2, 3, 4, 8, 16, 64), values, strict=True):
            assert price - value <= math.log(min(size, 5)) + 1e-12
            assert price - value <= information


def test_too_many_batches_are_refused():
    with pytest.raises(ValueError, match="batches of 64"):
        batch_aggregate_kl(torch.ones(12, 2) / 2, torch.ones(2) / 2, 64)
    with pytest.raises(ValueError, match="at least 1"):
        batch_aggregate_kl(torch.ones(3, 2) / 2, torch.ones(2) / 2, 0)


def test_information_obeys_the_chain_rule():
    q = (2 * torch.randn(6, 7, 5)).softmax(-1)
    total, between, within = information_chain(q)
    assert total == pytest.approx((between + within).item(), abs=1e-12)
    uniform = torch.full((5,), 0.2)
    assert total == pytest.approx(elbo_surgery(q.flatten(0, 1), uniform).mutual_information.item(), abs=1e-12)
    assert between == pytest.approx(elbo_surgery(q.mean(1), uniform).mutual_information.item(), abs=1e-12)
    inside = torch.stack([elbo_surgery(one, uniform).mutual_information for one in q]).mean()
    assert within == pytest.approx(inside.item(), abs=1e-12)


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
def test_a_cleared_market_has_no_gap_and_is_certain_but_for_ties(beta):
    for _ in range(5):
        score, log_prior = code_toy()
        market = clear_market(score, log_prior, beta)
        assert -1e-12 <= market.dual - market.primal < 1e-8
        assert (market.q.amax(-1) < 1 - 1e-6).sum() < 5  # at most K - 1 rows are undecided
        net = score - market.price
        worse = (net.amax(-1, keepdim=True) - net) * (market.q > 1e-6)
        assert worse.max() < 1e-6  # nobody buys what is not best at these prices
        torch.testing.assert_close(
            market.price, beta * (market.q.mean(0).log() - log_prior), atol=1e-5, rtol=0
        )


def test_no_posterior_beats_the_market_and_no_price_undercuts_it():
    score, log_prior = code_toy()
    market = clear_market(score, log_prior)
    for _ in range(200):
        q = ((0.2 + 5 * torch.rand(())) * (score + log_prior + torch.randn(12, 5))).softmax(-1)
        assert market_primal(q, score, log_prior, 1.0) <= market.primal + 1e-8
        v = market.price + 0.3 * torch.randn(5)
        assert market_dual(v, score, log_prior, 1.0) >= market.dual - 1e-8


def test_limits_of_the_market():
    score, _ = code_toy()
    log_prior = torch.full((5,), math.log(0.2))
    free = clear_market(score, log_prior, 1e-3)
    assert torch.equal(free.q.argmax(-1), score.argmax(-1))
    fair = clear_market(score, log_prior, 100.0)
    torch.testing.assert_close(fair.q.mean(0), log_prior.exp(), atol=1e-2, rtol=0)


def test_misuse_is_named():
    score, log_prior = code_toy()
    with pytest.raises(ValueError, match="beta must be"):
        clear_market(score, log_prior, 0.0)
    with pytest.raises(ValueError, match=r"\(n, K\)"):
        clear_market(score, log_prior[:3])
    with pytest.raises(ValueError, match="one shape"):
        code_bounds(score[:3].softmax(-1), score, log_prior)
    with pytest.raises(ValueError, match="above 0"):
        mixture_bounds(
            mixture_toy(), torch.zeros(1), torch.ones(1, 3).softmax(-1), torch.tensor([[1.0, 0, 1]])
        )
    with pytest.raises(ValueError, match="groups"):
        information_chain(torch.ones(3, 4))

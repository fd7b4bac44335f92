"""The seventeen checks that the sources of Part II allow, by number, on the library's own functions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from vqbook.enumerable import (
    MixtureBounds,
    MixtureToy,
    batch_aggregate_kl,
    clear_market,
    code_bounds,
    code_posterior,
    information_chain,
    mixture_bounds,
)
from vqbook.metrics import code_counts, perplexity
from vqbook.objectives import (
    aggregate_bias,
    aggregate_kl,
    albo,
    code_kl,
    elbo,
    gmvq_loss,
    latent_kl,
    miller_madow,
    mutual_information,
)
from vqbook.quantizers import GaussianMixtureQuantizer, VectorQuantizer, gumbel_softmax
from vqbook.quantizers.soft_lookup import soft_lookup
from vqbook.vqvae import VQVAEOutput


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def log_rows(n: int, k: int, *, seed: int = 0, sharp: float = 2.0) -> Tensor:
    return (sharp * normal(n, k, seed=seed)).log_softmax(-1)


def soft_draws(logits: Tensor, temperature: float, samples: int, *, seed: int) -> Tensor:
    """The draws y of the quantizer's own training path, for one row of logits: (samples, K), float32."""
    k = len(logits)
    torch.manual_seed(seed)
    return soft_lookup(
        torch.zeros(samples, 1), torch.zeros(k, 1), logits.float(), torch.eye(k), torch.tensor(temperature)
    ).read


@pytest.mark.parametrize("seed", range(5))
def test_01_code_kl_is_information_plus_aggregate_kl(seed: int) -> None:
    log_q, log_prior = log_rows(40, 7, seed=seed), log_rows(1, 7, seed=seed + 100)[0]
    difference = (
        code_kl(log_q, log_prior) - mutual_information(log_q) - aggregate_kl(log_q, log_prior)
    ).abs()
    assert difference < 1e-12


def readings(variance: float) -> MixtureBounds:
    toy = MixtureToy(torch.tensor([-1.5, 0.2, 1.4]).double(), log_rows(1, 3)[0], 0.7, 0.5, torch.tanh)
    q = log_rows(6, 3, seed=1).exp()
    return mixture_bounds(toy, normal(6, seed=2), q, torch.full((6, 3), variance).double())


@pytest.mark.parametrize("variance", [1e-1, 1e-2, 1e-4])
def test_02_readings_minus_elbo(variance: float) -> None:
    found = readings(variance)
    information = found.information.mean()
    assert (found.principled - found.elbo).mean() == pytest.approx(float(information), abs=1e-5)
    h = 0.5 * math.log(2 * math.pi * math.e * variance)
    assert (found.trained - found.elbo).mean() == pytest.approx(float(information) - h, abs=1e-5)


def test_03_at_the_exact_posterior_albo_overshoots_by_the_information() -> None:
    log_lik, log_prior = log_rows(12, 5, seed=3), log_rows(1, 5, seed=4)[0]
    q = code_posterior(log_lik, log_prior)
    evidence = code_bounds(q, log_lik, log_prior).evidence
    ours = ((q * log_lik).sum(-1), torch.zeros(12).double(), q.log(), log_prior)
    assert abs(elbo(*ours) - evidence) < 1e-12
    assert abs(albo(*ours) - evidence - mutual_information(q.log())) < 1e-12
    assert mutual_information(q.log()) > 0.1


@pytest.mark.parametrize("seed", range(20))
def test_04_albo_minus_log_codes_is_a_bound(seed: int) -> None:
    log_lik, log_prior = 3 * log_rows(12, 5, seed=seed), log_rows(1, 5, seed=seed + 50)[0]
    for log_q in (log_rows(12, 5, seed=seed + 99), code_posterior(log_lik, log_prior).log()):
        found = code_bounds(log_q.exp(), log_lik, log_prior)
        ours = albo((log_q.exp() * log_lik).sum(-1), log_lik.new_zeros(12), log_q, log_prior)
        assert abs(ours - found.albo) < 1e-12
        assert ours - math.log(5) <= found.evidence


def literal_excess(variance: float, sigma_x: float = 0.1) -> tuple[float, float]:
    zero, one = torch.zeros(1).double(), torch.ones(1, 1).double()
    found = mixture_bounds(MixtureToy(zero, zero, 1.0, sigma_x), zero, one, variance * one)
    return float(found.literal - found.evidence), float(found.elbo - found.evidence)


def test_05_the_counterexample() -> None:
    for variance, excess in ((0.1, -3.661), (0.01, 0.884), (1e-4, 1.384)):
        assert literal_excess(variance)[0] == pytest.approx(excess, abs=1e-3)
    limit = 0.5 * math.log(1.01) - 0.5 * math.log(2 * math.pi) - math.log(0.1)
    assert limit == pytest.approx(1.3886, abs=1e-4)
    assert literal_excess(1e-9)[0] == pytest.approx(limit, abs=1e-5)
    assert all(literal_excess(s)[1] < 1e-9 for s in (1e-4, 1e-3, 0.0099, 0.1, 1.0))
    assert literal_excess(1 / (1 + 1 / 0.01))[1] == pytest.approx(0, abs=1e-9)
    threshold = 1 / (2 * math.pi - 1)
    assert threshold == pytest.approx(0.1893, abs=1e-4)
    assert literal_excess(1e-9, math.sqrt(threshold) - 0.01)[0] > 0
    assert literal_excess(1e-9, math.sqrt(threshold) + 0.01)[0] < 0


@pytest.mark.parametrize("variance", [1e-1, 1e-2, 1e-4])
def test_06_the_literal_reading_stays_below_evidence_minus_entropy(variance: float) -> None:
    found = readings(variance)
    assert (found.literal <= found.evidence - found.mixture_entropy + 1e-9).all()


def test_07_the_batch_aggregate_goes_from_elbo_to_albo() -> None:
    log_q, log_prior = log_rows(6, 4, seed=5), log_rows(1, 4, seed=6)[0]
    values = [float(batch_aggregate_kl(log_q.exp(), log_prior.exp(), m)) for m in (1, 2, 3, 5, 8, 12)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(float(code_kl(log_q, log_prior)), abs=1e-12)
    assert values[-1] > aggregate_kl(log_q, log_prior)
    pairs = torch.stack([aggregate_kl(log_q[[i, j]], log_prior) for i in range(6) for j in range(6)])
    assert values[1] == pytest.approx(float(pairs.mean()), abs=1e-12)


def test_08_miller_and_madow_tell_the_bias() -> None:
    codes, rows, repeats = 16, 256, 4000
    draws = torch.randint(codes, (repeats, rows), generator=rng(7))
    counts = torch.stack([torch.bincount(row, minlength=codes) for row in draws])
    plain = torch.special.entr(counts.double() / rows).sum(-1)
    bias = math.log(codes) - plain.mean()  # of KL to the uniform prior, whose true value is 0
    assert bias == pytest.approx(0.0299, abs=6e-4)
    assert (codes - 1) / (2 * rows) == pytest.approx(0.0293, abs=1e-4)
    assert abs(miller_madow(counts).mean() - math.log(codes)) < 1e-3
    one_hot = torch.eye(codes).double().repeat(rows // codes, 1).log()
    assert aggregate_bias(one_hot) == pytest.approx((codes - 1) / (2 * rows), rel=1e-9)
    # soft rows: the first order in 1/M, against batches drawn from a finite set of rows
    log_q, uniform = log_rows(50, codes, seed=8), torch.full((codes,), -math.log(codes)).double()
    picked = log_q[torch.randint(50, (repeats, 64), generator=rng(9))]
    measured = torch.stack([aggregate_kl(batch, uniform) for batch in picked]).mean()
    want = aggregate_bias(log_q) * 50 / 64  # stated for as many rows as are given
    assert measured - aggregate_kl(log_q, uniform) == pytest.approx(float(want), rel=0.05)


def test_09_the_gradient_of_the_aggregate_kl() -> None:
    logits, log_prior = normal(9, 5).requires_grad_(), log_rows(1, 5, seed=1)[0]
    (gradient,) = torch.autograd.grad(aggregate_kl(logits.log_softmax(-1), log_prior), logits)
    q = logits.detach().softmax(-1)
    t = q.mean(0).log() - log_prior
    formula = q * (t - (q * t).sum(-1, keepdim=True)) / 9
    assert (gradient - formula).abs().max() < 1e-15
    step, differences = 1e-5, torch.zeros(9, 5).double()
    for i in range(9):
        for c in range(5):
            move = torch.zeros(9, 5).double()
            move[i, c] = step
            up, down = (
                aggregate_kl((logits.detach() + s * move).log_softmax(-1), log_prior) for s in (1, -1)
            )
            differences[i, c] = (up - down) / (2 * step)
    assert (differences - formula).abs().max() < 1e-9


def test_10_the_latent_kl() -> None:
    dim, sigma_z, s = 5, 0.7, 0.2
    z = math.sqrt(s) * normal(400_000, dim)
    log_ratio = 0.5 * (z.square() * (1 / sigma_z**2 - 1 / s)).sum(-1) - dim / 2 * math.log(s / sigma_z**2)
    assert latent_kl(torch.tensor(s).double(), sigma_z, dim) == pytest.approx(
        float(log_ratio.mean()), abs=5e-3
    )
    assert latent_kl(torch.tensor(sigma_z**2).double(), sigma_z, dim).abs() < 1e-15
    others = latent_kl(torch.tensor([0.1, 0.4, 0.6, 9.0]).double(), sigma_z, dim)
    assert (others > 0).all()


@pytest.mark.parametrize("mixing", ["variance", "deviation"])
def test_11_the_noise_has_the_energy_of_the_distance(mixing: str) -> None:
    quantizer = GaussianMixtureQuantizer(1, 6, sigma=0.8, mixing=mixing, generator=rng(0))
    z = torch.randn(6, generator=rng(1)).expand(200_000, 6)
    torch.manual_seed(0)
    noise = (quantizer(z).z_q - quantizer.codebook).detach()
    want = (z[0] - quantizer.codebook.detach()[0]).square().sum() / (2 * 0.8**2)
    assert noise.square().sum(-1).mean() == pytest.approx(float(want), rel=0.01)


def draw_both_ways(logits: Tensor, temperature: float, samples: int) -> list[Tensor]:
    chapter_5 = gumbel_softmax(logits.expand(samples, -1), temperature, generator=rng(11))
    return [chapter_5, soft_draws(logits, temperature, samples, seed=12).double()]


def test_12_gumbel_max_and_its_softening() -> None:
    logits, samples = normal(8, seed=10), 200_000
    q = logits.softmax(-1)
    for y in draw_both_ways(logits, 0.7, samples):
        assert (y.sum(-1) - 1).abs().max() < 1e-5
        counts = torch.bincount(y.argmax(-1), minlength=8)
        chi_square = ((counts - samples * q).square() / (samples * q)).sum()
        assert chi_square < 24.3  # the 0.999 quantile for 7 degrees of freedom
    far, near = (
        [float((y.mean(0) - q).abs().max()) for y in draw_both_ways(logits, t, samples)] for t in (2.0, 0.01)
    )
    assert max(near) < 0.005 < 0.05 < min(far)


def test_13_the_binary_closed_form() -> None:
    table = {  # logit difference: (exact gradient, relaxed gradient)
        0.05: (0.24984, 0.16663),
        0.5: (0.23500, 0.16256),
        1.0: (0.19661, 0.15095),
        2.0: (0.10499, 0.11333),
        4.0: (0.01766, 0.04085),
        8.0: (0.00034, 0.00202),
    }
    for difference, (exact, relaxed) in table.items():
        gap = torch.tensor(difference).double().requires_grad_()
        a = gap.exp()
        mean = a * (a - 1 - gap) / (a - 1).square()
        assert torch.autograd.grad(a / (1 + a), gap, retain_graph=True)[0] == pytest.approx(exact, abs=1e-5)
        assert torch.autograd.grad(mean, gap)[0] == pytest.approx(relaxed, abs=1e-5)
        for y in draw_both_ways(torch.tensor([difference, 0.0]).double(), 1.0, 200_000):
            assert y[:, 0].mean() == pytest.approx(float(mean.detach()), abs=3e-3)
    samples, gap = 200_000, torch.tensor(0.5, requires_grad=True)
    torch.manual_seed(0)
    bias = torch.stack([gap, torch.zeros(())])
    y = soft_lookup(
        torch.zeros(samples, 1), torch.zeros(2, 1), bias, torch.tensor([[1.0], [0.0]]), torch.tensor(1.0)
    ).read
    assert torch.autograd.grad(y.mean(), gap)[0] == pytest.approx(table[0.5][1], abs=1e-3)


def test_14_primal_equals_dual() -> None:
    score, log_prior = 2 * normal(12, 5, seed=13), log_rows(1, 5, seed=14)[0]
    found = clear_market(score, log_prior)
    assert abs(found.primal - found.dual) < 1e-6
    certain = found.q.amax(-1) > 1 - 1e-6
    assert certain.sum() >= 12 - 4  # ties are at most one fewer than the codes
    torch.testing.assert_close(found.price, found.q.mean(0).log() - log_prior, atol=1e-6, rtol=0)
    cheapest = (score - found.price).argmax(-1)
    assert torch.equal(found.q.argmax(-1)[certain], cheapest[certain])


@pytest.mark.parametrize("mixing", ["variance", "deviation"])
def test_15_the_limits_are_vq_vae(mixing: str) -> None:
    quantizer = GaussianMixtureQuantizer(
        32, 4, sigma=math.inf, spread=1e6, mixing=mixing, start=1e-4, end=1e-4, generator=rng(0)
    )
    plain = VectorQuantizer(32, 4)
    plain.codebook.data.copy_(quantizer.codebook.data)
    z = torch.randn(500, 4, generator=rng(1))
    sharp, want = quantizer(z), plain.eval()(z)
    assert torch.equal(sharp.codes, want.codes)
    assert torch.equal(sharp.z_q, plain.lookup(want.codes))
    assert torch.equal(quantizer.eval()(z).z_q, sharp.z_q)
    torch.testing.assert_close(
        sharp.terms["distance"] / quantizer.weights[0], 4 * want.terms["commitment"], rtol=1e-4, atol=0
    )


def test_15_without_noise_and_prices_the_loss_is_that_of_a_soft_vq_vae() -> None:
    quantizer = GaussianMixtureQuantizer(8, 4, sigma=math.inf, spread=4.0, generator=rng(0))  # W = I
    z, x = torch.randn(3, 2, 2, 4, generator=rng(1)), torch.rand(3, 1, 4, 4, generator=rng(2))
    out = VQVAEOutput(x + 0.1, z, quantizer(z))
    gamma = 0.25
    q = quantizer.posterior(z).exp()
    squares = torch.cdist(z.flatten(0, -2), quantizer.codebook).square().reshape(3, 2, 2, 8)
    want = mse_loss(out.x_hat, x) + gamma * (q * squares).sum() / (
        3 * 16
    )  # of an image: per number of its 16
    torch.testing.assert_close(gmvq_loss(x, out, beta=0.0, gamma=gamma), want)


def test_16_perplexity_and_permutations() -> None:
    assert perplexity(code_counts(torch.arange(16).repeat(3), 16)) == pytest.approx(16)
    assert perplexity(code_counts(torch.zeros(48, dtype=torch.int64), 16)) == pytest.approx(1)
    terms = ("distance", "latent_kl", "aggregate_kl", "code_kl")
    quantizer = GaussianMixtureQuantizer(16, 4, terms=terms, generator=rng(0))
    z, order = torch.randn(60, 4, generator=rng(1)), torch.randperm(16, generator=rng(2))
    before = quantizer(z).terms
    quantizer.codebook.data = quantizer.codebook.data[order]
    after = quantizer(z).terms
    for name in terms:
        torch.testing.assert_close(after[name], before[name], msg=name)


def test_17_the_chain_rule_of_information() -> None:
    q = log_rows(5 * 6, 4, seed=20).exp().reshape(5, 6, 4)
    found = information_chain(q)
    assert abs(found.total - found.between - found.within) < 1e-12
    assert abs(found.total - mutual_information(q.log())) < 1e-12
    assert abs(found.between - mutual_information(q.mean(1).log())) < 1e-12
    assert abs(found.within - torch.stack([mutual_information(group.log()) for group in q]).mean()) < 1e-12

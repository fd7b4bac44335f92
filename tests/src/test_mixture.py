"""The mixture against torch.distributions, brute force and statistics."""

from __future__ import annotations

import math

import pytest
import torch

from vqbook.mixture import ancestral_sample, log_density, log_joint, responsibilities


@pytest.fixture
def model():
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    log_var = torch.randn(5, generator=generator, dtype=torch.float64)
    log_pi = torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(-1)
    return mu, log_var, log_pi


def torch_mixture(mu, log_var, log_pi):
    d = torch.distributions
    parts = d.Independent(d.Normal(mu, (0.5 * log_var).exp()[:, None].expand_as(mu)), 1)
    return d.MixtureSameFamily(d.Categorical(logits=log_pi), parts)


@pytest.mark.parametrize("lead", [(), (7,), (2, 3)])
def test_density_and_responsibilities_agree_with_torch_distributions(model, lead):
    _, _, log_pi = model
    z = torch.randn(*lead, 3, dtype=torch.float64)
    reference = torch_mixture(*model)
    torch.testing.assert_close(log_density(z, *model), reference.log_prob(z))
    each = reference.component_distribution.log_prob(z.unsqueeze(-2)) + log_pi
    torch.testing.assert_close(log_joint(z, *model), each)
    r = responsibilities(z, *model)
    assert r.shape == (*lead, 5)
    torch.testing.assert_close(r, (each - each.logsumexp(-1, keepdim=True)).exp())
    torch.testing.assert_close(r.sum(-1), torch.ones(lead, dtype=torch.float64))


def test_the_density_integrates_to_one():
    mu = torch.tensor([[-1.0], [0.4], [2.0]], dtype=torch.float64)
    log_var = torch.tensor([-2.0, 0.3, -1.0], dtype=torch.float64)
    grid = torch.linspace(-14, 14, 40_001, dtype=torch.float64)
    density = log_density(grid[:, None], mu, log_var).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)


def test_one_variance_makes_a_softmax_of_distances(model):
    mu, _, _ = model
    z = torch.randn(20, 3, dtype=torch.float64)
    r = responsibilities(z, mu, math.log(0.3**2))
    torch.testing.assert_close(r, (-(z[:, None] - mu).square().sum(-1) / (2 * 0.3**2)).softmax(-1))


def test_far_points_and_tiny_variances_stay_finite():
    mu = torch.randn(6, 16)
    z = 1e3 * torch.randn(8, 16)
    for value in (log_density(z, mu, -12.0), responsibilities(z, mu, -12.0)):
        assert value.isfinite().all()


def test_the_score_points_to_the_responsible_means(model):
    mu, log_var, _ = model
    z = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(log_density(z, *model).sum(), z)
    r = responsibilities(z, *model)
    pull = (mu - z.unsqueeze(-2)) / log_var.exp()[:, None]
    torch.testing.assert_close(score, (r.unsqueeze(-1) * pull).sum(-2))


def test_permuting_the_components_permutes_the_answer(model):
    mu, log_var, log_pi = model
    order, z = torch.tensor([3, 0, 4, 1, 2]), torch.randn(4, 3, dtype=torch.float64)
    permuted = responsibilities(z, mu[order], log_var[order], log_pi[order])
    torch.testing.assert_close(permuted, responsibilities(z, *model)[:, order])


def test_samples_have_the_components_frequencies_means_and_variances(model):
    mu, log_var, log_pi = model
    n = 60_000
    codes, z = ancestral_sample(n, *model, generator=torch.Generator().manual_seed(1))
    assert codes.shape == (n,) and codes.dtype == torch.int64 and z.shape == (n, 3)
    for k in range(5):
        own = z[codes == k]
        p = log_pi[k].exp().item()
        assert abs(len(own) / n - p) < 4 * math.sqrt(p * (1 - p) / n)
        spread = (0.5 * log_var[k]).exp()
        assert ((own.mean(0) - mu[k]).abs() < 5 * spread / math.sqrt(len(own))).all()
        assert ((own.var(0) / spread**2 - 1).abs() < 6 * math.sqrt(2 / len(own))).all()


def test_samples_are_reproducible_and_follow_the_density(model):
    first, again = (ancestral_sample(9, *model, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.codes, again.codes) and torch.equal(first.z, again.z)
    _, z = ancestral_sample(40_000, *model, generator=torch.Generator().manual_seed(2))
    log_p, reference = log_density(z, *model), torch_mixture(*model)
    expected = log_density(reference.sample((40_000,)), *model)
    error = math.sqrt((log_p.var() + expected.var()).item() / 40_000)
    assert abs(log_p.mean() - expected.mean()) < 5 * error


@pytest.mark.parametrize(
    "call",
    [
        lambda mu: log_joint(torch.zeros(4), mu, 0.0),
        lambda mu: log_joint(torch.zeros(3), mu[0], 0.0),
        lambda mu: log_joint(torch.zeros(3), mu, torch.zeros(4)),
        lambda mu: responsibilities(torch.zeros(3), mu, 0.0, torch.zeros(2)),
        lambda mu: ancestral_sample(0, mu, 0.0),
        lambda mu: ancestral_sample(3, mu, torch.zeros(7)),
    ],
)
def test_what_does_not_fit_is_said(call):
    with pytest.raises(ValueError, match="got"):
        call(torch.zeros(5, 3))

"""The VAE and its bounds against slow exact versions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from vqbook.vae import (
    VAE,
    elbo_surgery,
    gaussian_kl,
    gaussian_log_density,
    image_vae,
    importance_weighted_bound,
    reparameterise,
)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def as_torch(mean, log_var):
    return Independent(Normal(mean, (0.5 * log_var).exp()), 1)


def test_log_density_is_torchs():
    x, mean, log_var = draws(3, 2, 4, 5)
    torch.testing.assert_close(gaussian_log_density(x, mean, log_var), as_torch(mean, log_var).log_prob(x))
    zero = torch.zeros_like(x)
    torch.testing.assert_close(gaussian_log_density(x), as_torch(zero, zero).log_prob(x))


def test_kl_is_torchs_between_any_two_and_to_the_standard_normal():
    mean, log_var, other, other_var = draws(4, 2, 4, 5)
    exact = kl_divergence(as_torch(mean, log_var), as_torch(other, other_var))
    torch.testing.assert_close(gaussian_kl(mean, log_var, other, other_var), exact)
    zero = torch.zeros_like(mean)
    torch.testing.assert_close(
        gaussian_kl(mean, log_var), kl_divergence(as_torch(mean, log_var), as_torch(zero, zero))
    )


def test_kl_is_never_negative_and_zero_only_at_the_prior():
    mean, log_var = 1e-5 * draws(2, 100, 3).float()
    assert (gaussian_kl(mean, log_var) >= 0).all()
    assert gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]


def test_kl_refuses_shapes_that_broadcast_by_accident():
    with pytest.raises(ValueError, match=r"\(4, 3\) but log_var is \(3,\)"):
        gaussian_kl(torch.zeros(4, 3), torch.zeros(3))


def test_reparameterise_has_the_right_moments_and_gradients():
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    log_var = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    z = reparameterise(mean, log_var, draws(200_000, 2))
    torch.testing.assert_close(z.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0), log_var.exp(), atol=0.02, rtol=0)
    to_mean, to_log_var = torch.autograd.grad(z.square().mean(0).sum(), (mean, log_var))
    torch.testing.assert_close(to_mean, 2 * mean, atol=0.02, rtol=0)  # E z^2 = m^2 + v
    torch.testing.assert_close(to_log_var, log_var.exp(), atol=0.02, rtol=0)


def test_importance_weighted_bound_in_log_space():
    log_w = draws(7, 4)
    torch.testing.assert_close(importance_weighted_bound(log_w), log_w.exp().mean(0).log())
    torch.testing.assert_close(importance_weighted_bound(log_w - 2_000), log_w.exp().mean(0).log() - 2_000)
    torch.testing.assert_close(importance_weighted_bound(log_w[:1]), log_w[0])
    assert (importance_weighted_bound(log_w) >= log_w.mean(0)).all()
    for empty in (torch.zeros(0, 3), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="at least one sample"):
            importance_weighted_bound(empty)


def test_surgery_against_loops():
    q, prior = draws(6, 5).softmax(-1), draws(5, seed=1).softmax(-1)
    parts = elbo_surgery(q, prior)
    average = sum(q) / 6
    kl = sum(q[n, c] * math.log(q[n, c] / prior[c]) for n in range(6) for c in range(5)) / 6
    information = sum(q[n, c] * math.log(q[n, c] / average[c]) for n in range(6) for c in range(5)) / 6
    marginal = sum(average[c] * math.log(average[c] / prior[c]) for c in range(5))
    for part, exact in zip(parts, (kl, information, marginal), strict=True):
        torch.testing.assert_close(part, torch.as_tensor(exact, dtype=torch.float64))
    torch.testing.assert_close(parts.average_kl, parts.mutual_information + parts.marginal_kl)


def test_surgery_with_certain_and_with_useless_codes():
    uniform = torch.full((4,), 0.25, dtype=torch.float64)
    certain = elbo_surgery(torch.eye(4, dtype=torch.float64), uniform)
    assert math.isclose(certain.mutual_information, math.log(4)) and certain.marginal_kl == 0
    useless = elbo_surgery(torch.tensor([[1.0, 0, 0, 0]] * 3, dtype=torch.float64), uniform)
    assert useless.mutual_information == 0 and math.isclose(useless.marginal_kl, math.log(4))


def test_surgery_refuses_what_is_no_distribution():
    with pytest.raises(ValueError, match="prior is no distribution"):
        elbo_surgery(torch.full((2, 2), 0.5), torch.ones(2))
    with pytest.raises(ValueError, match="row of q is no distribution"):
        elbo_surgery(torch.ones(2, 2), torch.full((2,), 0.5))
    with pytest.raises(ValueError, match=r"q must be \(N, K\)"):
        elbo_surgery(torch.ones(2), torch.ones(2))


class LinearEncoder(nn.Module):
    """The exact posterior of the linear model below: N(A x, v)."""

    def __init__(self, weight, sigma):
        super().__init__()
        precision = weight.T @ weight / sigma**2 + torch.eye(weight.shape[1], dtype=weight.dtype)
        assert torch.allclose(
            precision, precision.diag().diag()
        )  # orthogonal columns: independent coordinates
        self.to_mean = (weight / sigma**2 / precision.diag()).T
        self.log_var = -precision.diag().log()

    def forward(self, x):
        mean = x.flatten(1) @ self.to_mean.T
        return torch.cat([mean, self.log_var.expand_as(mean)], -1)


def linear_vae(sigma=0.5):
    weight = torch.linalg.qr(draws(12, 3)).Q * torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    decoder = nn.Sequential(nn.Linear(3, 12, bias=False, dtype=torch.float64), nn.Unflatten(1, (3, 2, 2)))
    decoder[0].weight.data = weight
    return VAE(LinearEncoder(weight, sigma), decoder, sigma).double(), weight


def test_the_bound_is_tight_at_the_exact_posterior():
    """With a linear decoder the evidence is N(0, W W^T + sigma^2 I); every weight equals it."""
    model, weight = linear_vae()
    x = draws(5, 3, 2, 2, seed=3)
    covariance = weight @ weight.T + 0.25 * torch.eye(12, dtype=torch.float64)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(12, dtype=torch.float64), covariance)
    exact = evidence.log_prob(x.flatten(1))
    torch.manual_seed(0)
    with torch.no_grad():
        log_w = model.log_weights(x, 4)
        torch.testing.assert_close(log_w, exact.expand(4, 5), atol=1e-6, rtol=0)
        terms = [model.elbo_terms(x) for _ in range(4_000)]
    bound = torch.stack([t["log_likelihood"] - t["kl"] for t in terms]).mean(0)
    torch.testing.assert_close(bound, exact, atol=0.15, rtol=0)


def test_image_vae_shapes_and_gradients():
    model = image_vae(3, 8, hidden=8, dim=5)
    x = torch.rand(4, 3, 8, 8)
    out = model(x)
    assert out.x_hat.shape == x.shape and out.z.shape == out.mean.shape == out.log_var.shape == (4, 5)
    terms = model.elbo_terms(x)
    assert terms["log_likelihood"].shape == terms["kl"].shape == (4,)
    assert model.log_weights(x, 6).shape == (6, 4)
    (terms["kl"] - terms["log_likelihood"]).mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_log_likelihood_sums_over_pixels():
    model = image_vae(1, 4, hidden=4, dim=2, sigma=0.2)
    x, x_hat = torch.rand(2, 3, 1, 4, 4)
    exact = Normal(x_hat, 0.2).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(model.log_likelihood(x, x_hat), exact)


def test_a_seed_fixes_the_draw():
    model, x = image_vae(1, 4, hidden=4, dim=2), torch.rand(3, 1, 4, 4)
    pairs = []
    for _ in range(2):
        torch.manual_seed(7)
        pairs.append(model(x).z)
    assert torch.equal(*pairs)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="sigma must be positive"):
        VAE(nn.Identity(), nn.Identity(), sigma=0)
    with pytest.raises(ValueError, match="multiple of 4"):
        image_vae(1, 30)
    with pytest.raises(ValueError, match="its reconstruction"):
        image_vae(1, 4).log_likelihood(torch.rand(2, 1, 4, 4), torch.rand(2, 16))

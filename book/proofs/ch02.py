"""Proofs of chapter 2: the evidence, its bounds, surgery, the Gaussian pieces, the water level, many guesses."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from proofs import largest, proof
from vqbook.vae import (
    VAE,
    elbo_surgery,
    gaussian_kl,
    gaussian_log_density,
    importance_weighted_bound,
    reparameterise,
)


def grid() -> tuple[Tensor, Tensor]:
    """A grid of one latent, wide and fine enough for sums, and its spacing."""
    z = torch.linspace(-12, 12, 12_001)
    return z, z[1] - z[0]


def enumerable() -> tuple[Tensor, Tensor, Tensor]:
    """A random model of six causes and five observations: p(z) (6,), p(x | z) (6, 5), and a guess q(z | x) (5,
    6)."""
    return torch.randn(6).softmax(-1), torch.randn(6, 5).softmax(-1), torch.randn(5, 6).softmax(-1)


def kl(a: Tensor, b: Tensor) -> Tensor:
    return (a * (a / b).log()).sum(-1)


@proof("eq-evidence", kind="quadrature", tolerance=1e-9)
def evidence_is_an_average_over_the_prior() -> float:
    """The integral of p(z) p(x | z) for x = z + noise, against the Gaussian of variance 1 + sigma^2 that x has,
    for ten noise levels and observations; and the sum over six causes against the marginal of the joint table."""
    (z, dz), errors = grid(), []
    for _ in range(10):
        x, sigma = torch.randn(()), 0.3 + torch.rand(())
        integral = (Normal(0.0, 1.0).log_prob(z) + Normal(z, sigma).log_prob(x)).exp().sum() * dz
        errors.append(integral - Normal(0.0, (1 + sigma**2).sqrt()).log_prob(x).exp())
        prior, lik, _ = enumerable()
        joint = prior[:, None] * lik
        errors.append(torch.einsum("z,zx->x", prior, lik) - joint.sum(0))
    return largest(*errors)


@proof("eq-jensen", kind="random models", tolerance=1e-12)
def jensen() -> float:
    """How far E log t exceeds log E t on 10,000 random distributions over seven values (it never does), and the
    difference where t is constant."""
    p, t = torch.randn(10_000, 7).softmax(-1), torch.randn(10_000, 7).exp()
    excess = (p * t.log()).sum(-1) - (p * t).sum(-1).log()
    constant = (p * t[:, :1].log()).sum(-1) - (p * t[:, :1]).sum(-1).log()
    return largest(excess.clamp_min(0), constant)


@proof("eq-elbo", "eq-elbo-gap", "eq-free-energy", "eq-elbo-parts", kind="enumerated", tolerance=1e-9)
def elbo_three_ways() -> float:
    """On 100 random tables: E log w never exceeds log E w, which is log p(x); it equals log p(x) minus the
    divergence from the posterior, minus the free energy, and reconstruction minus price; and an optimiser that
    minimises the free energy over q without knowing Bayes' rule ends at minus log p(x), with the posterior."""
    errors = []
    for _ in range(100):
        prior, lik, q = enumerable()
        joint = (prior[:, None] * lik).T  # (x, z)
        log_p = joint.sum(-1).log()
        weight = joint / q
        bound = (q * weight.log()).sum(-1)
        errors += [(bound - log_p).clamp_min(0), (q * weight).sum(-1).log() - log_p]
        errors.append(bound - (log_p - kl(q, joint / joint.sum(-1, keepdim=True))))
        energy, entropy = -(q * joint.log()).sum(-1), -(q * q.log()).sum(-1)
        errors.append(energy - entropy + bound)
        errors.append((q * lik.T.log()).sum(-1) - kl(q, prior) - bound)
    logits = torch.zeros(5, 6).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def free_energy() -> Tensor:
        optimiser.zero_grad()
        q = logits.softmax(-1)
        value = (q * (-joint.log())).sum() + (q * q.log()).sum()
        value.backward()
        return value

    optimiser.step(free_energy)
    errors.append(free_energy() + log_p.sum())
    found = logits.softmax(-1) - joint / joint.sum(-1, keepdim=True)
    return largest(*errors, found.abs().max().square())  # near a minimum q is off by the root of the value


@proof("eq-aggregate", "eq-information", "eq-surgery", "eq-ceiling", kind="enumerated", tolerance=1e-12)
def surgery() -> float:
    """On 100 random posteriors over codes, and on mixtures of Gaussians by quadrature: the average posterior
    sums to one and is the marginal of the joint; the average of KL(q || q bar) is KL(joint || product of
    marginals); price = information + waste; the information lies between zero, log N and the price. The
    library's split agrees."""
    errors = []
    for _ in range(100):
        q, prior = torch.randn(7, 5).softmax(-1), torch.randn(5).softmax(-1)
        joint, bar = q / 7, q.mean(0)
        information = kl(q, bar).mean()
        price, wasted = kl(q, prior).mean(), kl(bar, prior)
        product = torch.full((7, 1), 1 / 7) * bar
        errors += [bar.sum() - 1, bar - joint.sum(0), information - (joint * (joint / product).log()).sum()]
        errors += [
            price - information - wasted,
            *(a - b for a, b in zip(elbo_surgery(q, prior), (price, information, wasted), strict=True)),
        ]
        errors += [(-information).clamp_min(0), (information - price).clamp_min(0)]
        errors.append((information - math.log(7)).clamp_min(0))
    sure = torch.eye(4)  # the ceiling log N is reached by certain posteriors
    errors.append(elbo_surgery(sure, torch.full((4,), 0.25)).mutual_information - math.log(4))
    z, dz = grid()
    log_p = Normal(0.0, 1.0).log_prob(z)
    for _ in range(10):
        log_q = Normal(torch.randn(4, 1), 0.3 + torch.rand(4, 1)).log_prob(z)  # (4, cells)
        log_bar = log_q.logsumexp(0) - math.log(4)
        price = (log_q.exp() * (log_q - log_p)).sum(1).mean() * dz
        information = (log_q.exp() * (log_q - log_bar)).sum(1).mean() * dz
        wasted = (log_bar.exp() * (log_bar - log_p)).sum() * dz
        errors += [price - information - wasted, (information - math.log(4)).clamp_min(0)]
    return largest(*errors)


@proof("eq-gaussian-kl", kind="quadrature", tolerance=1e-8)
def price_in_closed_form() -> float:
    """The formula, written out, against the integral of q log(q / p) coordinate by coordinate, and against the
    library, for twenty Gaussians in three dimensions."""
    (z, dz), errors = grid(), []
    for _ in range(20):
        m, v = torch.randn(3), 0.2 + torch.rand(3)
        formula = 0.5 * (m**2 + v - 1 - v.log()).sum()
        log_q = Normal(m[:, None], v.sqrt()[:, None]).log_prob(z)
        integral = (log_q.exp() * (log_q - Normal(0.0, 1.0).log_prob(z))).sum() * dz
        errors += [formula - integral, formula - gaussian_kl(m, v.log())]
    return largest(*errors)


@proof("eq-reparameterise", kind="quadrature", tolerance=1e-7)
def gradient_of_a_shaped_draw() -> float:
    """Derivatives of the average of f under N(m, v), taken through the density on a grid, against the averages
    of f' and of noise times f' over standard Gaussian noise, for ten m, v and f(z) = sin 2z + z^3 / 5; draws by
    the library have that f'."""
    (z, dz), errors = grid(), []
    density = Normal(0.0, 1.0).log_prob(z).exp() * dz  # of the noise

    def f(z: Tensor) -> Tensor:
        return (2 * z).sin() + z**3 / 5

    for _ in range(10):
        m, sd = torch.randn(()).requires_grad_(), (0.4 + 0.6 * torch.rand(())).requires_grad_()
        average = (Normal(m, sd).log_prob(z).exp() * f(z)).sum() * dz
        left = torch.autograd.grad(average, (m, sd))
        with torch.no_grad():
            drawn = m + sd * z
            slope = 2 * (2 * drawn).cos() + 3 * drawn**2 / 5
            errors += [left[0] - (density * slope).sum(), left[1] - (density * z * slope).sum()]
        mean, log_var = m.detach().requires_grad_(), 2 * sd.detach().log()
        through = (density * f(reparameterise(mean, log_var, z))).sum()
        errors.append(torch.autograd.grad(through, mean)[0] - left[0])
    return largest(*errors)


@proof("eq-gaussian-likelihood", kind="random models", tolerance=1e-9)
def likelihood_of_an_image() -> float:
    """The formula against torch's Normal summed over pixels, and against the library's log_likelihood, on ten
    random images; relative error."""
    errors = []
    for _ in range(10):
        x, x_hat, sigma = torch.rand(3, 4, 4), torch.rand(3, 4, 4), 0.1 + torch.rand(())
        pixels = x.numel()
        formula = (x - x_hat).square().sum() / (2 * sigma**2) + pixels / 2 * (2 * math.pi * sigma**2).log()
        slow = -Normal(x_hat, sigma).log_prob(x).sum()
        model = VAE(torch.nn.Identity(), torch.nn.Identity(), sigma.item()).double()
        with torch.no_grad():
            model.log_sigma.copy_(sigma.log())
            fast = -model.log_likelihood(x[None], x_hat[None])[0]
        errors += [(formula - slow) / slow.abs(), (formula - fast) / slow.abs()]
    return largest(*errors)


@proof("eq-best-sigma", kind="random models", tolerance=1e-9)
def best_noise_level() -> float:
    """At sigma^2 = MSE the derivative of the average likelihood vanishes, and twenty other levels are no
    better, on ten batches."""
    errors = []
    for _ in range(10):
        x, x_hat = torch.rand(8, 12), torch.rand(8, 12)
        mse = (x - x_hat).square().mean()

        def cost(var: Tensor, mse: Tensor = mse) -> Tensor:
            return 12 * mse / (2 * var) + 6 * (2 * math.pi * var).log()

        var = mse.clone().requires_grad_()
        (slope,) = torch.autograd.grad(cost(var), var)
        others = cost(mse * torch.linspace(0.2, 4, 20))
        sampled = -gaussian_log_density(x, x_hat, mse.log()).mean()
        errors += [slope * mse, (cost(mse) - others).clamp_min(0), cost(mse) - sampled]
    return largest(*errors)


@proof("eq-kl-weight", kind="random models", tolerance=1e-9)
def weight_of_the_price() -> float:
    """With sigma^2 = beta P / 2, minus the ELBO times 2 sigma^2 / P is MSE + beta KL plus a constant that is
    the same for different reconstructions and prices; ten weights from 0.001 to 10."""
    errors, pixels = [], 48
    for beta in torch.logspace(-3, 1, 10):
        var = beta * pixels / 2
        constants = []
        for _ in range(5):
            x, x_hat = torch.rand(6, pixels), torch.rand(6, pixels)
            price = gaussian_kl(torch.randn(6, 3), torch.randn(6, 3)).mean()
            minus_elbo = price - gaussian_log_density(x, x_hat, var.log()).mean()
            constants.append(2 * var / pixels * minus_elbo - F.mse_loss(x_hat, x) - beta * price)
        spread = torch.stack(constants)
        errors += [
            (spread - spread[0]) / (1 + spread.abs()),
            spread[0] / (var * (2 * math.pi * var).log()) - 1,
        ]
    return largest(*errors)


@proof("eq-quarter", kind="random models", tolerance=1e-12)
def a_quarter_of_a_nat() -> float:
    """How far the mean image's MSE exceeds 1/4 for 1,000 data sets with values in [0, 1], many of them at the
    ends, and how far KL exceeds 1/4 at the exact minimum of MSE + KL over linear models of such data (chapter's
    water level); neither does."""
    errors = []
    for _ in range(1_000):
        x = torch.rand(20, 6)
        x = torch.where(torch.rand(20, 6) < 0.7, x.round(), x)
        errors.append(((x - x.mean(0)).square().mean() - 0.25).clamp_min(0))
    worst = torch.tensor([0.0, 1.0]).repeat(10)[:, None].expand(20, 6)
    errors.append((worst - worst.mean(0)).square().mean() - 0.25)  # reached
    for _ in range(20):
        x = (torch.rand(40, 1) < 0.5).double().expand(40, 6)  # all pixels alike: the tallest column there is
        heights = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).clamp_min(1e-12)
        price = 0.5 * (heights / (6 / 2)).clamp_min(1).log().sum()
        errors.append((price - 0.25).clamp_min(0))
    return largest(*errors)


@proof("eq-water", kind="random models", tolerance=1e-9)
def water_level() -> float:
    """Price and error of the linear model at the maximum of its bound, found by LBFGS over decoder, encoder and
    width from a random start, against the formulas, for fifty variances from 0.05 to 20 times the noise's;
    squared difference."""
    lam, var = torch.logspace(math.log10(0.05), math.log10(20), 50) * 0.49, 0.49
    w, a, log_v = (torch.full((50,), start).requires_grad_() for start in (0.7, 0.4, -0.3))

    def parts() -> tuple[Tensor, Tensor]:
        error = lam * (1 - w * a) ** 2 + w**2 * log_v.exp()
        return error, 0.5 * (a**2 * lam + log_v.exp() - 1 - log_v)

    optimiser = torch.optim.LBFGS(
        [w, a, log_v],
        max_iter=300,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        error, price = parts()
        loss = (error / (2 * var) + price).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        error, price = parts()
        rate, floor = 0.5 * (lam / var).clamp_min(1).log(), lam.clamp_max(var)
        above = lam > var
        information = 0.5 * ((w**2 + var) / var).log()  # of the model's own x and z: Gaussian channel
    return largest((price - rate) ** 2, (error - floor) ** 2, (information - rate)[above] ** 2)


def every_outcome(guesses: int) -> tuple[Tensor, Tensor]:
    """All 5^k outcomes of k draws among five causes: their chances, and log w_i - log p(x) of each draw (k,
    outcomes)."""
    gen = torch.Generator().manual_seed(3)
    q = torch.rand(5, generator=gen).softmax(-1)
    joint = q * torch.randn(5, generator=gen).exp()
    outcomes = torch.cartesian_prod(*[torch.arange(5)] * guesses).reshape(-1, guesses)
    return q[outcomes].prod(1), (joint / q).log()[outcomes].T - joint.sum().log()


@proof("eq-iw", "eq-iw-order", kind="enumerated", tolerance=1e-12)
def many_guesses() -> float:
    """All outcomes of one to six draws among five causes: the average weight has mean p(x), L_k does not exceed
    log p(x), and L_k never falls with k; the library's bound agrees with the formula."""
    bounds, errors = [], []
    for k in range(1, 7):
        chance, log_w = every_outcome(k)
        mean = log_w.exp().mean(0)
        errors += [(chance * mean).sum() - 1, importance_weighted_bound(log_w) - mean.log()]
        bounds.append((chance * mean.log()).sum())
    return largest(
        *errors,
        *(b.clamp_min(0) for b in bounds),
        *((a - b).clamp_min(0) for a, b in itertools.pairwise(bounds)),
    )


@proof("eq-iw-bias", kind="enumerated", tolerance=0.01)
def bias_of_many_guesses() -> float:
    """What s_w^2 / 2k leaves of the exact gap, for ten guessers between two causes and every outcome of 64 and of 128
    draws: doubling k divides it by four (relative error of the four)."""
    errors = []
    for chance in torch.linspace(0.05, 0.2, 10):  # of drawing the first cause
        w = torch.tensor([1.3, (1 - 1.3 * chance) / (1 - chance)])  # weights over p(x): their mean is one
        spread = chance * (w[0] - 1) ** 2 + (1 - chance) * (w[1] - 1) ** 2
        rests = []
        for k in (64, 128):
            first = torch.arange(k + 1.0)  # how many draws took the first cause
            outcome = torch.distributions.Binomial(k, chance).log_prob(first).exp()
            gap = -(outcome * ((first * w[0] + (k - first) * w[1]) / k).log()).sum()
            rests.append(gap - spread / (2 * k))
        errors.append(rests[0] / rests[1] / 4 - 1)
    return largest(*errors)

"""Proofs of chapter 6: the mixture and its responsibilities, the adaptive variance, the latent KL, the limit."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from proofs import largest, proof
from vqbook.mixture import log_density, responsibilities
from vqbook.quantizers.gmvq import GaussianMixtureQuantizer

MODELS = 50


def random_mixture(num_codes: int = 5, dim: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """(pi (K,), mu (K, D), sigma (K,))."""
    return torch.randn(num_codes).softmax(-1), torch.randn(num_codes, dim), 0.3 + torch.rand(num_codes)


def normal(x: Tensor, mean: Tensor, var: Tensor | float) -> Tensor:
    """Density of an isotropic Gaussian, last axis summed over, written out."""
    var = torch.as_tensor(var)
    square = ((x - mean) ** 2).sum(-1)
    return (-square / (2 * var)).exp() / (2 * math.pi * var) ** (x.shape[-1] / 2)


def evidence_bound_parts(s: float, var_z: float, var_x: float, x: float) -> tuple[Tensor, ...]:
    """A one-dimensional model with three codes on a grid: log p(c, z, x), q(c, z), log q(c, z), the weight of a cell,
    and the three terms of the bound."""
    z = torch.linspace(-12, 12, 40_001)[:, None, None]  # (Z, 1, 1)
    cell = (z[1] - z[0]).item()
    pi, mu, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([-1.0, 0.2, 1.5]), torch.randn(3).softmax(-1)
    likelihood = normal(torch.tensor([x]), torch.tanh(z) * 1.3, var_x)  # (Z, 1)
    prior, guess = normal(z, mu[:, None], var_z), normal(z, mu[:, None], s)  # (Z, 3)
    joint, both = (pi * prior * likelihood).log(), q * guess
    reconstruction = (both * likelihood.log()).sum() * cell
    latent = (both * (guess.clamp_min(1e-300).log() - prior.log())).sum() * cell
    code = (q * (q / pi).log()).sum()
    return joint, both, torch.tensor(cell), reconstruction, latent, code


@proof("eq-mix-story", "eq-mix-density", kind="quadrature", tolerance=1e-6)
def story() -> float:
    """On a two-dimensional grid: the sum over codes integrates to one and is the library's density; integrated over z
    and x, the joint gives back pi."""
    side = torch.linspace(-9, 9, 361)
    grid, cell = torch.cartesian_prod(side, side), (side[1] - side[0]) ** 2
    errors = []
    for _ in range(5):
        pi, mu, sigma = random_mixture(4, 2)
        each = torch.stack([p * normal(grid, m, s**2) for p, m, s in zip(pi, mu, sigma, strict=True)], -1)
        errors += [
            each.sum() * cell - 1,
            each.sum(-1) - log_density(grid, mu, 2 * sigma.log(), pi.log()).exp(),
        ]
        errors.append(each.sum(0) * cell - pi)
        x = torch.linspace(-30, 30, 6_001)[:, None]
        picture = normal(x, torch.tanh(grid[::700, :1])[:, None], 0.5)  # (Z', X)
        errors.append(picture.sum(-1) * (x[1] - x[0]) - 1)
    return largest(*errors)


@proof("eq-responsibilities", "eq-log-sum-exp", kind="random models", tolerance=1e-10)
def whose_turn() -> float:
    """Joint density over the sum of joint densities, against the exponents, with and without the shift, and against
    the library; a shifted sum lies between 1 and K."""
    errors = []
    for _ in range(MODELS):
        pi, mu, sigma = random_mixture()
        z = 2 * torch.randn(3)
        joint = torch.stack([p * normal(z, m, s**2) for p, m, s in zip(pi, mu, sigma, strict=True)])
        a = pi.log() - ((z - mu) ** 2).sum(-1) / (2 * sigma**2) - 3 / 2 * (sigma**2).log()
        r = joint / joint.sum()
        errors += [r - a.exp() / a.exp().sum(), r - responsibilities(z, mu, 2 * sigma.log(), pi.log())]
        m = a.max()
        shifted = (a - m).exp().sum()
        errors += [a.exp().sum().log() - m - shifted.log(), float(not 1 <= shifted <= 5)]
        errors.append(joint.sum().log() - (m + shifted.log() - 3 / 2 * math.log(2 * math.pi)))
    return largest(*errors)


@proof("eq-mix-border", kind="random models", tolerance=1e-9)
def border() -> float:
    """On the sphere both exponents agree, in random directions; just inside the narrow code wins, just outside the
    other (where the radius is real)."""
    errors, seen = [], 0
    while seen < MODELS:
        pi, mu, sigma = random_mixture(2, 3)
        k, j = (0, 1) if sigma[0] < sigma[1] else (1, 0)
        vk, vj = sigma[k] ** 2, sigma[j] ** 2
        centre = (vj * mu[k] - vk * mu[j]) / (vj - vk)
        gap = ((mu[k] - mu[j]) ** 2).sum() / (vj - vk)
        square = vk * vj / (vj - vk) * (gap + 2 * (pi[k] / pi[j]).log() + 3 * (vj / vk).log())
        if square <= 0 or vj / vk < 1.1:
            continue
        seen += 1

        def lead(
            z: Tensor, pi: Tensor = pi, mu: Tensor = mu, sigma: Tensor = sigma, k: int = k, j: int = j
        ) -> Tensor:
            a = pi.log() - ((z[:, None] - mu) ** 2).sum(-1) / (2 * sigma**2) - 1.5 * (sigma**2).log()
            return a[:, k] - a[:, j]

        way = torch.randn(20, 3)
        way = way / way.norm(dim=-1, keepdim=True) * square.sqrt()
        errors.append(lead(centre + way))
        errors += [(lead(centre + 0.99 * way) <= 0).double(), (lead(centre + 1.01 * way) >= 0).double()]
    return largest(*errors)


@proof("eq-mix-score", kind="random models", tolerance=1e-10)
def score() -> float:
    """Autograd's gradient of the log density against the sum of pulls; with one width, the step uphill against the
    mean code."""
    errors = []
    for _ in range(MODELS):
        pi, mu, sigma = random_mixture()
        z = torch.randn(3)
        for widths in (sigma, sigma[:1].expand(5)):
            found = torch.func.grad(lambda v, w=widths, m=mu, p=pi: log_density(v, m, 2 * w.log(), p.log()))(
                z
            )
            r = responsibilities(z, mu, 2 * widths.log(), pi.log())
            errors.append(found - (r[:, None] * (mu - z) / widths[:, None] ** 2).sum(0))
        errors.append(z + sigma[0] ** 2 * found - r @ mu)
    return largest(*errors)


@proof("eq-mix-em", kind="random models", tolerance=1e-8)
def em() -> float:
    """At a fixed point of both lines, found by iterating, autograd's gradient of the mean log density with respect to
    means and width vanishes."""
    errors = []
    for _ in range(10):
        z = torch.randn(60, 2) + 3 * torch.randn(4, 2)[torch.randint(4, (60,))]
        mu, sigma2 = z[torch.randperm(60)[:4]], torch.tensor(1.0)
        for _ in range(1_500):
            r = responsibilities(z, mu, sigma2.log())
            mu = r.T @ z / r.sum(0)[:, None]
            sigma2 = (r * ((z[:, None] - mu) ** 2).sum(-1)).sum() / z.numel()
        at = (mu, sigma2.log())
        slopes = torch.func.grad(lambda p, z=z: log_density(z, p[0], p[1]).mean())(at)
        errors += list(slopes)
    return largest(*errors)


@proof("eq-mix-guess", "eq-mix-elbo", kind="quadrature", tolerance=1e-7)
def bound() -> float:
    """On a grid: q sums and integrates to one, and E_q[log p - log q] is the sum of the three terms; it lies below the
    log evidence."""
    errors = []
    for s, var_z, var_x, x in ((0.3, 0.5, 0.4, 0.2), (0.05, 0.2, 1.0, -1.0), (0.6, 0.6, 0.3, 0.9)):
        joint, both, cell, reconstruction, latent, code = evidence_bound_parts(s, var_z, var_x, x)
        log_q = both.clamp_min(1e-300).log()
        value = (both * (joint - log_q)).sum() * cell
        errors += [both.sum() * cell - 1, value - (reconstruction - latent - code)]
        errors.append((value - (joint.exp().sum() * cell).log()).clamp_min(0))
    return largest(*errors)


@proof("eq-mix-code-posterior", kind="random models", tolerance=1e-6)
def code_posterior() -> float:
    """Summed feature by feature, against the library's posterior (which computes in float32); a change of unit leaves
    it alone; with all weights 1 / sigma^2 it is the responsibilities of the story."""
    errors = []
    for _ in range(MODELS):
        layer = GaussianMixtureQuantizer(6, 4).double()
        with torch.no_grad():
            layer.raw_weights.copy_(torch.randn(4))
        mu, w, z_e = layer.codebook.detach(), layer.weights.detach(), torch.randn(4)

        def posterior(z: Tensor, mu: Tensor, w: Tensor) -> Tensor:
            logits = torch.stack([-0.5 * sum(w[i] * (z[i] - m[i]) ** 2 for i in range(4)) for m in mu])
            return logits.exp() / logits.exp().sum()

        q = posterior(z_e, mu, w)
        errors += [q - layer.posterior(z_e).exp(), q - posterior(10 * z_e, 10 * mu, w / 100)]
        same = posterior(z_e, mu, torch.full((4,), 1 / 0.49))
        errors.append(same - responsibilities(z_e, mu, math.log(0.49)))
    return largest(*errors)


@proof("eq-adaptive-variance", "eq-one-point", kind="random models", tolerance=1e-6)
def adaptive_variance() -> float:
    """The rule entry by entry against the library; with 2 sigma^2 = 1 the slope of the log density of z_e in the
    variance vanishes there and changes its sign."""
    errors = []
    for _ in range(MODELS):
        layer = GaussianMixtureQuantizer(6, 8, sigma=0.9).double()
        z_e, mu = torch.randn(8), layer.codebook.detach()
        d2 = torch.stack([((z_e - m) ** 2).sum() for m in mu])
        errors.append(layer.variances(z_e) - d2 / (2 * 0.9**2 * 8))
        slope = torch.func.grad(lambda s, z=z_e, mu=mu: normal(z, mu, s).log().sum())
        best = d2 / 8
        errors.append(slope(best) * best)
        errors += [(slope(0.9 * best) <= 0).double(), (slope(1.1 * best) >= 0).double()]
    return largest(*errors)


@proof("eq-noise-energy", kind="sampled", tolerance=4)
def noise_energy() -> float:
    """Mean and relative spread of the squared length of 200,000 noises for each of five codes, in standard errors."""
    errors = []
    layer = GaussianMixtureQuantizer(5, 16).double()
    z_e, mu = torch.randn(16), layer.codebook.detach()
    for k in range(5):
        s = layer.variances(z_e)[k].detach()
        square = s * torch.randn(200_000, 16).square().sum(-1)
        expected = ((z_e - mu[k]) ** 2).sum() / (2 * layer.sigma**2)
        errors.append((square.mean() - expected) / (square.std() / math.sqrt(len(square))))
        relative = square / square.mean() - 1
        spread = relative.square()
        errors.append((spread.mean() - 2 / 16) / (spread.std() / math.sqrt(len(square))))
    return largest(*errors)


@proof("eq-noise-pull", kind="quadrature", tolerance=1e-5)
def noise_pull() -> float:
    """In one dimension by quadrature over the noise: exact for quadratic errors; for a bent one the remainder of the
    approximation shrinks like the fourth power of the distance."""
    eps = torch.linspace(-12, 12, 24_001)
    weight = (-eps.square() / 2).exp() / math.sqrt(2 * math.pi) * (eps[1] - eps[0])
    errors = []
    for _ in range(10):
        a, b, c, mu = torch.randn(4)

        def bent(z: Tensor, a: Tensor = a, b: Tensor = b, c: Tensor = c) -> Tensor:
            return (c - a * torch.tanh(b * z)) ** 2

        def quadratic(z: Tensor, a: Tensor = a, c: Tensor = c) -> Tensor:
            return (c - a * z) ** 2

        for f, distances in ((quadratic, (2.0, 0.5)), (bent, (0.04, 0.02))):
            curve = torch.func.grad(torch.func.grad(f))(mu)
            left = []
            for d in distances:
                s = d**2 / (2 * 0.5)  # D = 1, 2 sigma^2 = 1
                exact = (weight * f(mu + math.sqrt(s) * eps)).sum()
                left.append(exact - f(mu) - curve / (4 * 0.5) * d**2)
            errors += [left[1]] if f is quadratic else [left[1] - left[0] / 16]
    return largest(*errors)


@proof("eq-radial-gradient", kind="random models", tolerance=1e-9)
def radial_gradient() -> float:
    """Autograd's gradient of the standard deviation for 50 vectors."""
    errors = []
    for _ in range(MODELS):
        z_e, mu, sigma = torch.randn(8), torch.randn(8), 0.5 + torch.rand(()).item()
        found = torch.func.grad(lambda z, mu=mu, s=sigma: (((z - mu) ** 2).sum() / (2 * s**2 * 8)).sqrt())(
            z_e
        )
        unit = (z_e - mu) / ((z_e - mu) ** 2).sum().sqrt()
        errors.append(found - unit / math.sqrt(2 * sigma**2 * 8))
    return largest(*errors)


@proof("eq-mix-sample", kind="sampled", tolerance=4.5)
def sample() -> float:
    """Mean and spread of the library's training sample at a low temperature against those of the mixture that q is:
    sum q mu, and the mean code's variance plus sum q sigma^2, in standard errors; the largest weight is a draw."""
    errors = []
    for mixing in ("variance", "deviation"):
        layer = GaussianMixtureQuantizer(4, 3, mixing=mixing, start=1e-3, end=1e-3).double().train()
        z_e = 0.5 * torch.randn(3)
        q, var, mu = (t.detach() for t in (layer.posterior(z_e).exp(), layer.variances(z_e), layer.codebook))
        z = layer(z_e.expand(200_000, 3)).z_q.detach()
        mean = q @ mu
        errors.append((z.mean(0) - mean) / (z.std(0) / math.sqrt(len(z))))
        spread = (z - mean).square()
        expected = q @ (mu - mean).square() + (q * var).sum()
        errors.append((spread.mean(0) - expected) / (spread.std(0) / math.sqrt(len(z))))
    return largest(*errors)


@proof("eq-mix-order", kind="random models", tolerance=1e-12)
def mixing_order() -> float:
    """The three sizes are ordered for 1,000 random weights, and agree at every corner."""
    y, var = (3 * torch.randn(1_000, 6)).softmax(-1), 3 * torch.rand(1_000, 6)

    def sizes(y: Tensor) -> tuple[Tensor, ...]:
        return (y**2 * var).sum(-1), (y * var.sqrt()).sum(-1) ** 2, (y * var).sum(-1)

    own, deviation, variance = sizes(y)
    corners = sizes(one_hot(torch.arange(1_000) % 6, 6).to(y))
    return largest(
        (own - deviation).clamp_min(0),
        (deviation - variance).clamp_min(0),
        corners[0] - corners[1],
        corners[1] - corners[2],
    )


@proof("eq-latent-kl", "eq-latent-kl-distance", kind="quadrature", tolerance=1e-7)
def latent_divergence() -> float:
    """The integral of q log q / p in one dimension times D; with the rule inserted, the formula in the distance, whose
    slope vanishes at d* and whose value there is zero."""
    errors = []
    for _ in range(20):
        s, var_z, dim = 0.1 + torch.rand(()), 0.1 + torch.rand(()), 7
        z = torch.linspace(-14, 14, 20_001)
        q, p = normal(z[:, None], torch.zeros(1), s), normal(z[:, None], torch.zeros(1), var_z)
        integral = (
            dim * (q * ((-(z**2) / 2) * (1 / s - 1 / var_z) - 0.5 * (s / var_z).log())).sum() * (z[1] - z[0])
        )
        errors += [integral - dim / 2 * (s / var_z - 1 - (s / var_z).log()), (q - p).sum() * (z[1] - z[0])]
        sigma = 0.4 + torch.rand(())

        def price(d: Tensor, sigma: Tensor = sigma, var_z: Tensor = var_z, dim: int = dim) -> Tensor:
            ratio = d**2 / (2 * sigma**2 * var_z * dim)
            return d**2 / (4 * sigma**2 * var_z) - dim / 2 - dim / 2 * ratio.log()

        d = (2 * sigma**2 * dim * s).sqrt()  # the distance whose adaptive variance is s
        rest = (2 * sigma**2 * var_z * dim).sqrt()
        errors += [price(d) - integral, torch.func.grad(price)(rest), price(rest)]
        errors += [float(price(0.9 * rest) <= 0), float(price(1.1 * rest) <= 0)]
    return largest(*errors)


@proof("eq-limit-rate", "eq-small-variance", kind="random models", tolerance=1e-9)
def small_variance() -> float:
    """Both inequalities for 50 vectors at seven widths; at the smallest both sides meet."""
    errors = []
    for _ in range(MODELS):
        z, mu = torch.randn(4), torch.randn(9, 4)
        d2 = ((z - mu) ** 2).sum(-1)
        least, winner = d2.min(-1)
        others = d2[torch.arange(9) != winner]
        for sigma in (3.0, 1.0, 0.5, 0.3, 0.2, 0.1, 1e-5):
            r = responsibilities(z, mu, 2 * math.log(sigma))
            bound = (-(others - least) / (2 * sigma**2)).exp().sum()
            errors.append((1 - r[winner] - bound).clamp_min(0))
            soft = -2 * sigma**2 * ((-d2 / (2 * sigma**2)).logsumexp(-1) - math.log(9))
            errors += [(least - soft).clamp_min(0), (soft - least - 2 * sigma**2 * math.log(9)).clamp_min(0)]
        errors += [1 - r[winner], soft - least]
    return largest(*errors)


@proof("eq-limit-objective", kind="quadrature", tolerance=1e-3)
def limit_objective() -> float:
    """In one dimension, one position, s = sigma_z^2: the bound by quadrature over the noise, for a one-hot choice
    among seven codes; the remaining difference at sigma_z = 0.003, and its decrease from 0.03."""
    eps = torch.linspace(-12, 12, 8_001)
    weight = (-eps.square() / 2).exp() / math.sqrt(2 * math.pi) * (eps[1] - eps[0])
    errors = []
    for _ in range(20):
        x, mu, slope = torch.randn(2), torch.randn(()), torch.randn(2)
        var_x, limit = 0.3, None
        gaps = []
        for sigma_z in (0.03, 0.003):
            picture = torch.tanh((mu + sigma_z * eps)[:, None] * slope)  # (E, P)
            square = ((x - picture) ** 2).sum(-1)
            likelihood = -square / (2 * var_x) - math.log(2 * math.pi * var_x)  # P = 2
            elbo = (weight * likelihood).sum() - math.log(7)
            limit = ((x - torch.tanh(mu * slope)) ** 2).sum() + 2 * var_x * math.log(7)
            limit = limit + 2 * var_x * math.log(2 * math.pi * var_x)
            gaps.append(-2 * var_x * elbo - limit)
        errors += [gaps[1], (gaps[1].abs() - gaps[0].abs()).clamp_min(0)]
    return largest(*errors)


@proof("eq-best-variance", kind="random models", tolerance=1e-9)
def best_variance() -> float:
    """For 50 linear decoders the derivative of the bound's part in s vanishes at the formula, and the part is larger
    there than beside it; the mean squared error under noise, over all corners of a cube, which has a Gaussian's second
    moments."""
    errors = []
    for _ in range(MODELS):
        a, var_z, var_x = torch.randn(5, 4), 0.2 + torch.rand(()), 0.1 + torch.rand(())

        def gain(s: Tensor, a: Tensor = a, var_z: Tensor = var_z, var_x: Tensor = var_x) -> Tensor:
            latent = 4 / 2 * (s / var_z - 1 - (s / var_z).log())
            return -s * (a**2).sum() / (2 * var_x) - latent

        best = 4 / (4 / var_z + (a**2).sum() / var_x)
        errors.append(torch.func.grad(gain)(best) * best)
        errors += [(gain(best * f) - gain(best)).clamp_min(0) for f in (0.9, 1.1)]
        corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)  # as Gaussian up to second moments
        gap, s = torch.randn(5), 0.7
        mean = ((gap - math.sqrt(s) * corners @ a.T) ** 2).sum(-1).mean()
        errors.append(mean - (gap**2).sum() - s * (a**2).sum())
    return largest(*errors)

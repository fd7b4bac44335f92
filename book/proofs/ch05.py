"""Proofs of chapter 5: the exact gradient and its estimators, Gumbel-max, relaxations, the VQ Jacobian, the budget."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, one_hot

from proofs import largest, proof
from vqbook.estimators import (
    exact_gradient,
    gumbel_rao,
    gumbel_softmax_gradient,
    leave_one_out,
    measure_error,
    score_function,
    straight_through_gumbel,
)
from vqbook.quantizers import rotation_trick
from vqbook.quantizers.gumbel import gumbel_softmax

MODELS = 50


def bent(num_codes: int) -> tuple[Tensor, Tensor, Tensor]:
    """A random model: logits (K,) and the two layers of a loss f(y) = sum tanh(y W) w."""
    return torch.randn(num_codes), torch.randn(num_codes, 6), torch.randn(6)


def loss(y: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return (y @ first).tanh() @ second


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum()


@proof("eq-expected-loss", kind="enumerated", tolerance=1e-12)
def expected_loss() -> float:
    """The mean over draws equals the sum over codes, when every draw of a die with rational odds (face k has k + 1 of
    15 slips) is listed."""
    slips = torch.tensor([k for k in range(5) for _ in range(k + 1)])
    logits = torch.arange(1.0, 6.0).log()
    errors = []
    for _ in range(MODELS):
        _, first, second = bent(5)
        grades = loss(torch.eye(5), first, second)
        errors.append(grades[slips].mean() - sum(softmax(logits)[k] * grades[k] for k in range(5)))
    return largest(*errors)


@proof("eq-softmax-jacobian", kind="random models", tolerance=1e-12)
def softmax_jacobian() -> float:
    """Autograd's Jacobian of the softmax, entry by entry, for 50 random logits."""
    errors = []
    for _ in range(MODELS):
        logits = torch.randn(6)
        found, q = torch.autograd.functional.jacobian(softmax, logits), softmax(logits)
        for j, k in itertools.product(range(6), repeat=2):
            errors.append(found[j, k] - q[j] * (float(j == k) - q[k]))
    return largest(*errors)


@proof("eq-enumerated-gradient", kind="enumerated", tolerance=1e-12)
def enumerated_gradient() -> float:
    """Autograd's gradient of the expected loss against q (f - F) and against the library, on 50 random models."""
    errors = []
    for _ in range(MODELS):
        logits, first, second = bent(7)
        grades = loss(torch.eye(7), first, second)
        found = torch.func.grad(lambda a, grades=grades: (softmax(a) * grades).sum())(logits)
        q = softmax(logits)
        errors.append(found - q * (grades - (q * grades).sum()))
        errors.append(found - exact_gradient(lambda y, a=first, b=second: loss(y, a, b), logits))
    return largest(*errors)


@proof("eq-score-function", "eq-baseline", kind="enumerated", tolerance=1e-12)
def score_and_baseline() -> float:
    """Summed over all codes, f times (corner - q) is the exact gradient, with or without a baseline, whose own part
    sums to zero; the library's estimates are those of the codes drawn."""
    errors = []
    for seed in range(MODELS):
        logits, first, second = bent(6)
        q, corners, b = softmax(logits), torch.eye(6), torch.randn(())
        grades = loss(corners, first, second)
        exact = torch.func.grad(lambda a, grades=grades: (softmax(a) * grades).sum())(logits)
        errors.append((q[:, None] * grades[:, None] * (corners - q)).sum(0) - exact)
        errors.append((q[:, None] * b * (corners - q)).sum(0))
        every = (grades - b)[:, None] * (corners - q)  # (K, K): the K estimates there are
        drawn = score_function(
            lambda y, a=first, w=second: loss(y, a, w),
            logits,
            torch.Generator().manual_seed(seed),
            20,
            baseline=b,
        )
        errors.append((drawn[:, None] - every).abs().sum(-1).min(1).values)
    return largest(*errors)


@proof("eq-leave-one-out", kind="enumerated", tolerance=1e-12)
def leave_one_out_is_unbiased() -> float:
    """Averaged over all 64 triples of four codes with their probabilities, the estimate is the exact gradient; the
    library's estimates are among those 64."""
    errors = []
    for seed in range(10):
        logits, first, second = bent(4)
        q, corners = softmax(logits), torch.eye(4)
        grades = loss(corners, first, second)
        mean, every = torch.zeros(4), []
        for codes in itertools.product(range(4), repeat=3):
            estimate = torch.zeros(4)
            for m, c in enumerate(codes):
                b = sum(grades[j] for i, j in enumerate(codes) if i != m) / 2
                estimate = estimate + (grades[c] - b) * (corners[c] - q) / 3
            every.append(estimate)
            mean = mean + math.prod(q[c] for c in codes) * estimate
        errors.append(mean - q * (grades - (q * grades).sum()))
        drawn = leave_one_out(
            lambda y, a=first, w=second: loss(y, a, w),
            logits,
            torch.Generator().manual_seed(seed),
            20,
            group=3,
        )
        errors.append((drawn[:, None] - torch.stack(every)).abs().sum(-1).min(1).values)
    return largest(*errors)


@proof("eq-gumbel-max", kind="quadrature", tolerance=1e-8)
def gumbel_max() -> float:
    """The probability that code k is the argmax, as an integral over its height t of its density times the probability
    that all others stay below t, is q_k (ten random logits, trapezoid rule)."""
    t = torch.linspace(-12, 60, 40_001)
    errors = []
    for _ in range(10):
        logits = 2 * torch.randn(5)
        for k in range(5):
            density = (logits[k] - t - (logits[k] - t).exp()).exp()
            below = (-(logits - t[:, None]).exp()).exp()  # (T, K), P(l_j + g_j <= t)
            others = below[:, [j for j in range(5) if j != k]].prod(-1)
            errors.append(torch.trapezoid(density * others, t) - softmax(logits)[k])
    return largest(*errors)


@proof("eq-gumbel-race", kind="quadrature", tolerance=1e-6)
def gumbel_race() -> float:
    """The integral over ringing times against the ratio of rates, for ten sets of rates (trapezoid rule)."""
    errors = []
    for _ in range(10):
        rate = torch.rand(5) + 0.2
        t = torch.linspace(0, 30, 200_001)
        for k in range(5):
            silent = torch.stack([(-rate[j] * t).exp() for j in range(5) if j != k]).prod(0)
            integral = torch.trapezoid(rate[k] * (-rate[k] * t).exp() * silent, t)
            errors.append(integral - rate[k] / rate.sum())
    return largest(*errors)


@proof("eq-gumbel-softmax", kind="random models", tolerance=1e-9)
def gumbel_softmax_limits() -> float:
    """The library's sample is the softmax of logits plus the same noise; its largest entry is the Gumbel-max draw at
    every temperature; cold it is that corner, hot the middle."""
    errors = []
    for seed in range(MODELS):
        logits = torch.randn(6)
        noise = -torch.empty(6).exponential_(generator=torch.Generator().manual_seed(seed)).log()
        drawn = (logits + noise).argmax()
        for tau in (0.3, 1.0, 3.0):
            y = gumbel_softmax(logits, tau, generator=torch.Generator().manual_seed(seed))
            errors += [y - softmax((logits + noise) / tau), float(y.argmax() != drawn)]
        cold, hot = (((logits + noise) / tau).softmax(-1) for tau in (1e-6, 1e12))
        errors += [cold - one_hot(drawn, 6), hot - 1 / 6]
    return largest(*errors)


@proof("eq-relaxed-gradient", "eq-st-gumbel", kind="random models", tolerance=1e-12)
def relaxed_gradients() -> float:
    """Autograd through the sample, relaxed or with the bracket, against the Jacobian (diag(y) - y y') / tau times the
    slope at the blend or at the corner, and against the library; the bracket's value is the corner."""
    errors = []
    for seed in range(MODELS):
        logits, first, second = bent(6)
        tau = 0.2 + 2 * torch.rand(()).item()
        noise = -torch.empty(6).exponential_(generator=torch.Generator().manual_seed(seed)).log()

        def f(y: Tensor, a: Tensor = first, w: Tensor = second) -> Tensor:
            return loss(y, a, w)

        y = softmax((logits + noise) / tau)
        corner = one_hot(y.argmax(), 6).to(y)
        jacobian = (torch.diag(y) - torch.outer(y, y)) / tau
        for at, library in ((y, gumbel_softmax_gradient), (corner, straight_through_gumbel)):
            leaf = logits.clone().requires_grad_()
            blend = softmax((leaf + noise) / tau)
            sample = blend if at is y else corner + blend - blend.detach()
            errors.append(sample.detach() - at)
            by_autograd = torch.autograd.grad(f(sample), leaf)[0]
            errors.append(by_autograd - jacobian.T @ torch.func.grad(f)(at))
            ours = library(f, logits, torch.Generator().manual_seed(seed), 1, temperature=tau)[0]
            errors.append(by_autograd - ours)
    return largest(*errors)


def logistic_rule(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the logistic distribution: the midpoint rule in t = log u - log(1 - u)."""
    t = torch.linspace(-60, 60, count)
    return t, t.sigmoid() * (1 - t.sigmoid()) * (t[1] - t[0])


@proof("eq-relaxed-loss", kind="quadrature", tolerance=1e-6)
def relaxed_loss() -> float:
    """For two codes: the mean of the relaxed gradient over the noise is the derivative of the mean loss of blends
    (central difference), for ten bent losses and three temperatures."""
    t, weight = logistic_rule(20_001)
    errors = []
    for _ in range(10):
        _, first, second = bent(2)

        def mean_loss(gap: float, tau: float, a: Tensor = first, w: Tensor = second) -> Tensor:
            y1 = ((gap + t) / tau).sigmoid()
            return (weight * loss(torch.stack([y1, 1 - y1], -1), a, w)).sum()

        for tau in (0.5, 1.0, 2.0):
            y1 = ((0.7 + t) / tau).sigmoid()
            y = torch.stack([y1, 1 - y1], -1).requires_grad_()
            (slope,) = torch.autograd.grad(loss(y, first, second).sum(), y)
            mean = (weight * y1 * (1 - y1) / tau * (slope[:, 0] - slope[:, 1])).sum()
            errors.append(mean - (mean_loss(0.7 + 1e-5, tau) - mean_loss(0.7 - 1e-5, tau)) / 2e-5)
    return largest(*errors)


@proof("eq-relaxed-binary", kind="quadrature", tolerance=1e-7)
def relaxed_binary() -> float:
    """The integral over u (midpoint rule) and the mean blend over logistic noise against the closed form, for six
    gaps; q_1 against the softmax."""
    u = (torch.arange(400_000) + 0.5) / 400_000
    t, weight = logistic_rule(40_001)
    errors = []
    for gap in (0.05, 0.5, 1.0, 2.0, 4.0, -3.0):
        a = math.exp(gap)
        closed = a * (a - 1 - gap) / (a - 1) ** 2
        errors.append((a * u / (1 + (a - 1) * u)).mean() - closed)
        errors.append((weight * (gap + t).sigmoid()).sum() - closed)
        errors.append(softmax(torch.tensor([gap, 0.0]))[0] - a / (1 + a))
    return largest(*errors)


@proof("eq-gumbel-rao", kind="sampled", tolerance=4)
def gumbel_rao_estimate() -> float:
    """For two codes the conditional mean Jacobian comes from quadrature over the noise that lets c win: weighted with
    q_c, both answers add up to the mean of straight-through (error times 1e9), and the library's estimates with one
    inner draw average to them (error in standard errors)."""
    t, weight = logistic_rule(200_001)
    errors = []
    for seed in range(5):
        _, first, second = bent(2)
        gap, tau = torch.randn(()), 0.3 + torch.rand(()).item()
        logits, corners = torch.stack([gap, torch.zeros(())]), torch.eye(2)

        def f(y: Tensor, a: Tensor = first, w: Tensor = second) -> Tensor:
            return loss(y, a, w)

        y1 = ((gap + t) / tau).sigmoid()
        y = torch.stack([y1, 1 - y1], -1)
        slopes = torch.stack([torch.func.grad(f)(corner) for corner in corners])
        drawn = gumbel_rao(f, logits, torch.Generator().manual_seed(seed), 20_000, temperature=tau, inner=1)
        again = -torch.empty(20_000, 2).exponential_(generator=torch.Generator().manual_seed(seed)).log()
        winner, total = (logits + again).argmax(-1), torch.zeros(2)
        for c, wins in enumerate((gap + t > 0, gap + t <= 0)):
            mass = (weight * wins).sum()
            jacobian = torch.diag((weight * wins) @ y) - torch.einsum("t,tj,tk->jk", weight * wins, y, y)
            answer = (jacobian / tau / mass).T @ slopes[c]
            total = total + mass * answer
            part = drawn[winner == c]
            errors.append((part.mean(0) - answer) / (part.std(0) / math.sqrt(len(part))))
        slope = torch.where((gap + t > 0)[:, None], slopes[0], slopes[1])
        through = y * (slope - (y * slope).sum(-1, keepdim=True)) / tau
        errors.append(1e9 * (total - weight @ through))
    return largest(*errors)


@proof("eq-temperature-variance", kind="quadrature", tolerance=0.01)
def temperature_variance() -> float:
    """The mean square of the estimate, by quadrature over the noise: the substituted integral agrees with it at every
    temperature, and at tau = 0.02 it is q_1 q_2 / 6 tau (relative error)."""
    errors = []
    noise, weight = logistic_rule(400_001)
    t = torch.linspace(-40, 40, 200_001)
    slope = t.sigmoid() * (1 - t.sigmoid())
    for gap in (0.0, 0.8, 2.0):
        q1 = torch.tensor(gap).sigmoid()
        for tau in (0.02, 0.3, 1.0):
            y = ((gap + noise) / tau).sigmoid()
            mean_square = (weight * (y * (1 - y) / tau).square()).sum()
            at = tau * t - gap
            substituted = torch.trapezoid(slope.square() * at.sigmoid() * (1 - at.sigmoid()), t) / tau
            errors.append(100 * (mean_square / substituted - 1))  # a hundred times tighter
            if tau == 0.02:
                errors.append(mean_square / (q1 * (1 - q1) / (6 * tau)) - 1)
    return largest(*errors)


@proof("eq-distance-softmax", kind="random models", tolerance=1e-12)
def distance_softmax() -> float:
    """As sigma tends to zero the probabilities are one at the nearest code, for 50 vectors; the ratio of any two is
    the exponential of the difference of their scores."""
    errors = []
    for _ in range(MODELS):
        z, book = torch.randn(4), torch.randn(9, 4)
        sq_dist = (z - book).square().sum(-1)
        for sigma in (0.5, 1.0):
            q = softmax(-sq_dist / (2 * sigma**2))
            ratio = (-(sq_dist[:, None] - sq_dist) / (2 * sigma**2)).exp()
            errors += [q.sum() - 1, q[:, None] / q / ratio - 1]
        sharp = (-sq_dist / (2 * 1e-3**2)).softmax(-1)
        errors.append(sharp - one_hot(sq_dist.argmin(), 9))
    return largest(*errors)


@proof("eq-soft-jacobian", kind="random models", tolerance=1e-10)
def soft_jacobian() -> float:
    """Autograd's Jacobian of the mean code against the sum and against the covariance over sigma squared."""
    errors = []
    for _ in range(MODELS):
        z, book, sigma = torch.randn(4), torch.randn(9, 4), 0.3 + torch.rand(()).item()

        def mean_code(z: Tensor, book: Tensor = book, sigma: float = sigma) -> Tensor:
            return (-(z - book).square().sum(-1) / (2 * sigma**2)).softmax(-1) @ book

        q = (-(z - book).square().sum(-1) / (2 * sigma**2)).softmax(-1)
        mean = q @ book
        found = torch.autograd.functional.jacobian(mean_code, z)
        total = sum(q[k] * torch.outer(book[k], book[k] - mean) for k in range(9)) / sigma**2
        covariance = torch.cov(book.T, correction=0, aweights=q) / sigma**2
        errors += [found - total, found - covariance]
    return largest(*errors)


@proof("eq-rotation-trick", "eq-rotation-gradient", kind="random models", tolerance=1e-10)
def rotation() -> float:
    """R is a rotation (orthogonal, determinant one) that takes one unit vector to the other; lambda R z_e is z_q; the
    library has this value and the gradient lambda R' g, whose length and angle are as stated."""
    errors = []
    for _ in range(MODELS):
        z_e, z_q, g = torch.randn(3, 5)
        z_e_hat, z_q_hat = z_e / z_e.norm(), z_q / z_q.norm()
        r = (z_e_hat + z_q_hat) / (z_e_hat + z_q_hat).norm()
        R = torch.eye(5) - 2 * torch.outer(r, r) + 2 * torch.outer(z_q_hat, z_e_hat)
        stretch = z_q.norm() / z_e.norm()
        errors += [R @ R.T - torch.eye(5), torch.linalg.det(R) - 1, stretch * R @ z_e - z_q]
        leaf = z_e.clone().requires_grad_()
        out = rotation_trick(leaf, z_q)
        (back,) = torch.autograd.grad((out * g).sum(), leaf)
        errors += [out.detach() - z_q, back - stretch * R.T @ g, back.norm() - stretch * g.norm()]
        errors += [
            z_e_hat @ (R.T @ g) - z_q_hat @ g,
            cosine_similarity(back, z_e, 0) - cosine_similarity(g, z_q, 0),
        ]
    return largest(*errors)


@proof("eq-error-budget", kind="enumerated", tolerance=1e-12)
def error_budget() -> float:
    """All 81 fourfold draws from three possible estimates: the mean squared error of their average is bias squared
    plus a quarter of the variance, and the library's debiased estimate has the squared bias as its mean."""
    errors = []
    for _ in range(10):
        estimates, exact = torch.randn(3, 5), torch.randn(5)
        p = torch.rand(3)
        p = p / p.sum()
        mean = p @ estimates
        bias_sq = (mean - exact).square().sum()
        v = (p * (estimates - mean).square().sum(-1)).sum()
        error, measured = torch.zeros(()), torch.zeros(())
        for drawn in itertools.product(range(3), repeat=4):
            weight, four = math.prod(p[i] for i in drawn), estimates[list(drawn)]
            error = error + weight * (four.mean(0) - exact).square().sum()
            measured = measured + weight * measure_error(four, exact).bias_sq
        errors += [error - (bias_sq + v / 4), measured - bias_sq]
    return largest(*errors)


@proof("eq-gradient-size", kind="enumerated", tolerance=1e-12)
def gradient_size() -> float:
    """With grades of plus or minus sqrt(v), all 64 combinations for six codes: the mean squared gradient against both
    lines; zero for a certain choice, v/4 for two even codes, v (1/K - 1/K^2) for K even ones."""

    def average(q: Tensor, v: float) -> Tensor:
        total = torch.zeros(())
        for signs in itertools.product((-1.0, 1.0), repeat=len(q)):
            grades = math.sqrt(v) * torch.tensor(signs)
            total = total + (q * (grades - (q * grades).sum())).square().sum() / 2 ** len(q)
        return total

    errors = []
    for _ in range(10):
        q, v = softmax(torch.randn(6)), 0.5 + torch.rand(()).item()
        first = sum(
            q[k] ** 2 * ((1 - q[k]) ** 2 + sum(q[j] ** 2 for j in range(6) if j != k)) for k in range(6)
        )
        second = (q**2 * (1 - 2 * q)).sum() + (q**2).sum() ** 2
        errors += [average(q, v) - v * first, average(q, v) - v * second]
    certain, even = one_hot(torch.tensor(2), 6).to(torch.float64), torch.full((6,), 1 / 6)
    errors += [average(certain, 1.0), average(torch.full((2,), 0.5), 1.0) - 1 / 4]
    errors.append(average(even, 1.0) - (1 / 6 - 1 / 36))
    return largest(*errors)


@proof("eq-control-variate", kind="enumerated", tolerance=1e-12)
def control_variate() -> float:
    """Summed over all codes the estimate is the exact gradient, for 50 bent losses; for a linear loss each single
    estimate is the exact gradient; the best constant baseline is where the derivative of the variance is
    zero."""
    errors = []
    for _ in range(MODELS):
        logits, first, second = bent(6)
        q, corners = softmax(logits), torch.eye(6)
        s = corners - q

        def f(y: Tensor, a: Tensor = first, w: Tensor = second) -> Tensor:
            return loss(y, a, w)

        for g in (f, lambda y, w=first[:, 0]: y @ w):
            grades, slope = g(corners), torch.func.grad(g)(q)
            exact = q * (grades - (q * grades).sum())
            tangent = g(q) + s @ slope
            every = (grades - tangent)[:, None] * s + (torch.diag(q) - torch.outer(q, q)) @ slope
            errors.append(q @ every - exact)
        errors.append(every - exact)  # the second loss is linear
        grades, weight = f(corners), s.square().sum(-1)
        best = (q * grades * weight).sum() / (q * weight).sum()
        errors.append(torch.func.grad(lambda b, a=grades, w=weight, q=q: (q * (a - b) ** 2 * w).sum())(best))
    return largest(*errors)

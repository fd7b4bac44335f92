"""Proofs of chapter 4: who wins far from the codebook, running averages, smoothing, revival, maps, usage."""

from __future__ import annotations

import math

import torch

from proofs import largest, proof
from vqbook.metrics import perplexity
from vqbook.quantizers import (
    AffineVectorQuantizer,
    Alternating,
    CosineVectorQuantizer,
    VectorQuantizer,
    ema_update,
    nearest_code,
    smoothed_codebook,
    synchronised,
)


@proof("eq-cb-far", kind="random models", tolerance=1e-9)
def far_away_the_inner_product_decides() -> float:
    """Squared distance against its expansion, and, a million radii away, the nearest code against the code with the
    largest inner product (share of 2,000 vectors that disagree)."""
    codes, z = torch.randn(40, 5), torch.randn(2_000, 5)
    left = (z[:, None] - codes).square().sum(-1)
    right = z.square().sum(-1, keepdim=True) - 2 * z @ codes.T + codes.square().sum(-1)
    far = 1e6 * z
    winner = (far[:, None] - codes).square().sum(-1).argmin(-1)
    return largest(left - right, (winner != (z @ codes.T).argmax(-1)).double().mean())


@proof("eq-cb-speed", kind="enumerated", tolerance=1e-5)
def adam_has_a_speed_limit() -> float:
    """PyTorch's Adam under a constant gradient: every one of 20 steps is the step size times the sign of the gradient,
    and its length is the step size times the root of D; error relative to the step size."""
    lr, errors = 1e-3, []
    code = torch.nn.Parameter(torch.randn(16))
    gradient = torch.randn(16)
    adam = torch.optim.Adam([code], lr=lr)
    for _ in range(20):
        before = code.detach().clone()
        code.grad = gradient.clone()
        adam.step()
        step = code.detach() - before
        errors += [(step + lr * gradient.sign()) / lr, (step.norm() - lr * 4) / lr]
    return largest(*errors)


@proof("eq-cb-crowd", kind="enumerated", tolerance=0)
def cell_of_the_crowd() -> float:
    """A code at the origin is strictly the nearest exactly where every inequality holds: 20 random codebooks with 500
    vectors each (number of disagreements)."""
    wrong = 0
    for _ in range(20):
        live, z = torch.randn(6, 3), 0.7 * torch.randn(500, 3)
        crowd_wins = nearest_code(z, torch.cat([torch.zeros(1, 3), live])) == 0
        inequalities = (z @ live.T < live.square().sum(-1) / 2).all(-1)
        wrong += int((crowd_wins != inequalities).sum())
    return float(wrong)


@proof("eq-ema", kind="random models", tolerance=1e-12)
def running_counts_and_sums() -> float:
    """The three lines, one vector at a time, against `ema_update` and (without smoothing) the ratio of its results."""
    counts, sums = torch.rand(5) + 0.5, torch.randn(5, 3)
    errors = []
    for _ in range(10):
        z, codes, decay = torch.randn(60, 3), torch.randint(0, 5, (60,)), 0.9
        n, m = ema_update(counts, sums, z, codes, decay)
        for k in range(5):
            chose = z[codes == k]
            count = decay * counts[k] + (1 - decay) * len(chose)
            total = decay * sums[k] + (1 - decay) * sum(chose, torch.zeros(3))
            errors += [n[k] - count, m[k] - total, smoothed_codebook(n, m, 1e-300)[k] - total / count]
        counts, sums = n, m
    return largest(*errors)


@proof("eq-ema-step", kind="random models", tolerance=1e-12)
def running_average_as_a_step() -> float:
    """The ratio after an update against the old code moved by the share towards the mean of its vectors; and the share
    itself where counts are steady."""
    errors = []
    for _ in range(50):
        decay, n, before = torch.rand(()), torch.randint(1, 20, ()).double(), 20 * torch.rand(()) + 0.1
        e, mean = torch.randn(2, 4)
        after = (decay * before * e + (1 - decay) * n * mean) / (decay * before + (1 - decay) * n)
        share = (1 - decay) * n / (decay * before + (1 - decay) * n)
        errors.append(after - ((1 - share) * e + share * mean))
        errors.append((1 - decay) * n / (decay * n + (1 - decay) * n) - (1 - decay))
    return largest(*errors)


@proof("eq-ema-memory", kind="random models", tolerance=1e-12)
def running_average_as_a_weighted_mean() -> float:
    """`ema_update` repeated over 30 batches against the weighted mean over all vectors that ever chose the code."""
    decay, steps = 0.8, 30
    counts, sums = torch.rand(4) + 0.5, torch.randn(4, 3)
    top, bottom = decay**steps * sums, decay**steps * counts
    for s in range(1, steps + 1):
        z, codes = torch.randn(40, 3), torch.randint(0, 4, (40,))
        counts, sums = ema_update(counts, sums, z, codes, decay)
        for z_n, c in zip(z, codes, strict=True):
            weight = (1 - decay) * decay ** (steps - s)
            top[c] += weight * z_n
            bottom[c] += weight
    return largest(sums / counts.unsqueeze(-1) - top / bottom.unsqueeze(-1))


@proof("eq-ema-lag", kind="enumerated", tolerance=1e-10)
def lag_and_noise() -> float:
    """The code is a linear filter of the batch means: its mean and variance are summed term by term over 4,000 past
    batches and compared with both parts of the formula, for three decays."""
    errors = []
    for decay in (0.5, 0.9, 0.99):
        age = torch.arange(1, 4_001)  # of the batches behind the code that step t uses
        weight = (1 - decay) * decay ** (age - 1.0)
        v, variance, n = 0.03, 0.7, 8
        errors.append((weight * v * age).sum() - v / (1 - decay))
        errors.append(weight.square().sum() * variance / n - (1 - decay) / (1 + decay) * variance / n)
    return largest(*errors)


@proof("eq-smoothing", kind="random models", tolerance=1e-12)
def smoothing_conserves_mass() -> float:
    """Smoothed counts sum to the counts, none is zero, and `smoothed_codebook` divides by them."""
    errors = []
    for _ in range(50):
        counts = 10 * torch.rand(9)
        counts[torch.randint(0, 9, (3,))] = 0
        sums, eps, total = torch.randn(9, 4), 0.05, counts.sum()
        smooth = (counts + eps) / (total + 9 * eps) * total
        errors += [smooth.sum() - total, (smooth <= 0).double().sum()]
        errors.append(smoothed_codebook(counts, sums, eps) - sums / smooth[:, None])
    return largest(*errors)


@proof("eq-smoothing-drift", kind="enumerated", tolerance=1e-12)
def idle_codes_slide_to_the_origin() -> float:
    """300 updates in which nobody chooses code 0 while the total stays the same: its place against the formula, after
    every one of them."""
    decay, eps, errors = 0.95, 1e-3, []
    counts = torch.tensor([1.0, 7.0])
    sums = counts[:, None] * torch.randn(2, 3)
    start = smoothed_codebook(counts, sums, eps)[0]
    for t in range(1, 301):
        counts, sums = ema_update(counts, sums, torch.randn(8, 3), torch.ones(8, dtype=torch.int64), decay)
        counts[1] = 8 - counts[0]  # the total is steady
        left = decay**t * (1 + eps) / (decay**t + eps)
        errors.append(smoothed_codebook(counts, sums, eps)[0] - left * start)
    return largest(*errors)


@proof("eq-false-alarm", kind="enumerated", tolerance=1e-12)
def false_alarm() -> float:
    """Every outcome of four draws from three codes: the chance that code 0 is not among them; and that the exponential
    is an upper bound which is close for rare codes (excess below zero, relative gap below p² N T)."""
    p = torch.tensor([0.2, 0.5, 0.3])
    outcomes = torch.cartesian_prod(*[torch.arange(3)] * 4)
    missing = p[outcomes].prod(-1)[(outcomes != 0).all(-1)].sum()
    errors = [float(missing) - (1 - 0.2) ** 4]
    for draws in (100, 10_000):
        rare = 1 / (10.0 * draws)
        exact, bound = (1 - rare) ** draws, math.exp(-rare * draws)
        errors.append(max(0.0, exact - bound))
        errors.append(max(0.0, bound / exact - 1 - rare**2 * draws))
    return largest(*errors)


@proof("eq-cosine", kind="random models", tolerance=1e-12)
def distance_on_the_sphere() -> float:
    """Squared distance of unit vectors against 2 - 2 cos, and the code that `CosineVectorQuantizer` takes has the
    largest cosine of all, for 500 vectors."""
    quantizer, z = CosineVectorQuantizer(12, 5).double(), 3 * torch.randn(500, 5)
    codes = quantizer.codebook.detach()
    cos = z @ codes.T / (z.norm(dim=-1, keepdim=True) * codes.norm(dim=-1))
    unit_z, unit_e = z / z.norm(dim=-1, keepdim=True), codes / codes.norm(dim=-1, keepdim=True)
    left = (unit_z[:, None] - unit_e).square().sum(-1)
    taken = cos.gather(-1, quantizer(z).codes[:, None])[:, 0]
    return largest(left - (2 - 2 * cos), taken - cos.max(-1).values)


@proof("eq-affine", "eq-affine-shift", kind="random models", tolerance=1e-12)
def shared_map() -> float:
    """The codes of `AffineVectorQuantizer` against the first formula, and autograd's gradient of the codebook term
    with respect to the shift against the second."""
    errors = []
    for _ in range(10):
        quantizer = AffineVectorQuantizer(7, 4, eta=3.0).double()
        z = torch.randn(30, 4)
        with torch.no_grad():
            for parameter in quantizer.parameters():
                parameter.copy_(torch.randn(parameter.shape))
        a, b, e = quantizer.scale, quantizer.shift, quantizer.codebook
        moved = (1 + 3.0 * a) * e + 3.0 * b
        errors.append(quantizer.effective_codebook() - moved)
        out = quantizer(z)
        (to_b,) = torch.autograd.grad(out.terms["codebook"], b)
        errors.append(to_b - 2 * 3.0 / 4 * (moved[out.codes] - z).mean(0))
    return largest(*errors)


@proof("eq-opt-stable", kind="enumerated", tolerance=0)
def heavy_ball_is_stable() -> float:
    """The step of `Alternating` repeated 300 times on one code with all vectors: it settles when the share lies 5 %
    below the limit and runs away when it lies 5 % above, for four momenta (number of wrong verdicts)."""
    wrong = 0
    for momentum in (0.0, 0.3, 0.6, 0.9):
        for factor, settles in ((0.95, True), (1.05, False)):
            dim, share = 2, factor * 2 * (1 + momentum)
            layer = Alternating(VectorQuantizer(1, dim), lr=share * dim / 2, momentum=momentum).double()
            z = torch.ones(5, dim)
            for _ in range(300):
                layer.train()(z)
            distance = float((layer.codebook.detach() - 1).norm())
            wrong += (distance < 1e-3) != settles
    return float(wrong)


@proof("eq-synchronised", kind="random models", tolerance=1e-12)
def synchronised_gradients() -> float:
    """Value and both gradients of the formula and of the library's estimator, against z_q, g and ν times the sum of
    the g of a code's vectors."""
    errors = []
    for _ in range(10):
        z, book = torch.randn(20, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
        g, nu, codes = torch.randn(20, 3), 0.7, torch.randint(0, 5, (20,))
        e = book[codes]
        written = z + (e - z).detach() + nu * (e - e.detach())
        by_code = torch.zeros(5, 3).index_add_(0, codes, g)
        for value in (written, synchronised(nu)(z, e)):
            to_z, to_book = torch.autograd.grad((value * g).sum(), (z, book), retain_graph=True)
            errors += [value - e, to_z - g, to_book - nu * by_code]
    return largest(*errors)


@proof("eq-window", kind="random models", tolerance=1e-12)
def pooled_entropy() -> float:
    """Entropy of the average against average entropy plus average divergence, for 50 sets of six windows; in
    perplexities the pooled one is never the smaller."""
    errors = []
    for _ in range(50):
        counts = torch.multinomial(torch.rand(8), 6 * 30, replacement=True).view(6, 30)
        p = torch.stack([torch.bincount(row, minlength=8) for row in counts]).double() / 30  # (B, K)
        pooled = p.mean(0)
        entropy = -torch.special.xlogy(p, p).sum(-1)
        divergence = (torch.special.xlogy(p, p) - torch.special.xlogy(p, pooled)).sum(-1)
        errors.append(-torch.special.xlogy(pooled, pooled).sum() - entropy.mean() - divergence.mean())
        errors.append(perplexity(pooled).log() - entropy.mean() - divergence.mean())
        errors.append(min(0.0, float(divergence.min())))
    return largest(*errors)

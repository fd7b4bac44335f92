"""Each quantizer against the slow, exact version of what it says it does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from vqbook.objectives import sqvae_loss, sqvae_terms
from vqbook.quantizers import (
    AffineVectorQuantizer,
    Alternating,
    CosineVectorQuantizer,
    EMAVectorQuantizer,
    GumbelQuantizer,
    LowDimensional,
    Revival,
    SQVAEQuantizer,
    VectorQuantizer,
    ema_update,
    exponential_schedule,
    gumbel_noise,
    gumbel_softmax,
    kmeans,
    nearest_code,
    revive,
    rotation_trick,
    smoothed_codebook,
    straight_through,
    synchronised,
)
from vqbook.vqvae import VQVAEOutput


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


# Estimators -----------------------------------------------------------------------------------------------------


def rotation(e: Tensor, q: Tensor) -> Tensor:
    """λR of one pair of vectors, as a matrix."""
    e_hat, q_hat = e / e.norm(), q / q.norm()
    r = (e_hat + q_hat) / (e_hat + q_hat).norm()
    turn = torch.eye(len(e), dtype=e.dtype) - 2 * torch.outer(r, r) + 2 * torch.outer(q_hat, e_hat)
    torch.testing.assert_close(turn @ turn.T, torch.eye(len(e), dtype=e.dtype))
    return q.norm() / e.norm() * turn


def test_rotation_trick_is_the_rotation() -> None:
    z_e, z_q, g = (randn(50, 5, seed=s, dtype=torch.float64) for s in range(3))
    z_e.requires_grad_()
    out = rotation_trick(z_e, z_q)
    torch.testing.assert_close(out, z_q)
    (out * g).sum().backward()
    for i in range(50):
        matrix = rotation(z_e[i].detach(), z_q[i])
        torch.testing.assert_close(matrix @ z_e[i].detach(), z_q[i])
        torch.testing.assert_close(z_e.grad[i], matrix.T @ g[i])
    cosine = torch.cosine_similarity
    torch.testing.assert_close(cosine(z_e.grad, z_e.detach()), cosine(g, z_q))


@pytest.mark.parametrize(
    ("z_e", "z_q", "gradient"),
    [
        ([0.0, 0.0], [3.0, 4.0], [1.0, 2.0]),  # no direction to turn: straight through
        ([1.0, 0.0], [0.0, 0.0], [0.0, 0.0]),  # stretched to nothing
        ([1.0, 0.0], [2.0, 0.0], [2.0, 4.0]),  # stretched only
        ([1.0, 0.0], [-1.0, 0.0], [-1.0, 2.0]),  # half a turn has no plane: a reflection
    ],
)
def test_rotation_trick_at_the_edges(z_e: list, z_q: list, gradient: list) -> None:
    leaf = torch.tensor([z_e], requires_grad=True)
    out = rotation_trick(leaf, torch.tensor([z_q]))
    (out * torch.tensor([1.0, 2.0])).sum().backward()
    assert torch.equal(out.detach(), torch.tensor([z_q]))
    torch.testing.assert_close(leaf.grad, torch.tensor([gradient]))


def test_synchronised_gives_a_share_to_the_codes() -> None:
    z_e, z_q, g = (randn(7, 3, seed=s) for s in range(3))
    z_e.requires_grad_(), z_q.requires_grad_()
    out = synchronised(0.3)(z_e, z_q)
    torch.testing.assert_close(out, z_q)
    (out * g).sum().backward()
    assert torch.equal(z_e.grad, g)
    torch.testing.assert_close(z_q.grad, 0.3 * g)
    assert torch.equal(synchronised(0)(z_e, z_q), straight_through(z_e, z_q))
    for nu in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="nu"):
            synchronised(nu)
    for estimator in (rotation_trick, synchronised(1.0)):
        with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 3\)"):
            estimator(torch.zeros(2, 3), torch.zeros(3, 3))


# EMA ------------------------------------------------------------------------------------------------------------


def test_ema_update_is_the_loop() -> None:
    counts, sums, z = torch.rand(8, generator=rng()), randn(8, 3), randn(4, 25, 3, seed=1)
    codes = torch.randint(6, (4, 25), generator=rng(2))  # two codes stay idle
    expected_counts, expected_sums = 0.9 * counts, 0.9 * sums
    for vector, code in zip(z.reshape(-1, 3), codes.flatten().tolist(), strict=True):
        expected_counts[code] += 0.1
        expected_sums[code] += 0.1 * vector
    before = counts.clone(), sums.clone()
    found = ema_update(counts, sums, z, codes, 0.9)
    torch.testing.assert_close(found, (expected_counts, expected_sums))
    assert torch.equal(counts, before[0]) and torch.equal(sums, before[1])
    with pytest.raises(ValueError, match=r"\(8, 2\)"):
        ema_update(counts, randn(8, 2), z, codes, 0.9)


def test_smoothing_keeps_the_sum_of_the_counts() -> None:
    counts, sums, eps = torch.tensor([10.0, 0.0, 2.0]), randn(3, 4), 0.1
    smoothed = sums / smoothed_codebook(counts, sums, eps)
    torch.testing.assert_close(smoothed[:, 0], (counts + eps) / (12 + 3 * eps) * 12)
    assert smoothed[:, 0].sum().item() == pytest.approx(12)


def test_without_memory_an_ema_step_is_a_step_of_lloyd() -> None:
    z = randn(200, 3)
    start = kmeans(z, 8, iterations=0, generator=rng(1)).centroids
    quantizer = EMAVectorQuantizer(8, 3, decay=0, eps=1e-12)
    quantizer.codebook.copy_(start)
    quantizer(z)
    lloyd = kmeans(z, 8, iterations=1, generator=rng(1)).centroids
    torch.testing.assert_close(quantizer.codebook, lloyd)


def test_ema_quantises_before_it_learns() -> None:
    quantizer = EMAVectorQuantizer(8, 3, decay=0.5, generator=rng())
    z, before = randn(50, 3, seed=1), quantizer.codebook.clone()
    out = quantizer(z)
    assert torch.equal(out.codes, nearest_code(z, before))
    torch.testing.assert_close(out.z_q, before[out.codes])
    torch.testing.assert_close(out.terms["commitment"], (z - before[out.codes]).square().mean())
    counts, sums = ema_update(torch.ones(8), before, z, out.codes, 0.5)
    assert torch.equal(quantizer.counts, counts) and torch.equal(quantizer.sums, sums)
    assert torch.equal(quantizer.codebook, smoothed_codebook(counts, sums, quantizer.eps))
    assert not list(quantizer.parameters())
    for settings in (dict(decay=1.0), dict(decay=-0.1), dict(eps=0.0)):
        with pytest.raises(ValueError, match="decay"):
            EMAVectorQuantizer(8, 3, **settings)


def test_ema_makes_no_matrix_of_vectors_by_codes() -> None:
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = function(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                self.size = max(self.size, out.numel())
            return out

    quantizer = EMAVectorQuantizer(512, 2, generator=rng())
    z = randn(400, 2)
    codes = nearest_code(z, quantizer.codebook)
    with Largest() as largest:
        quantizer.read(z, codes)
    assert 0 < largest.size <= 1024  # K x D; N x K would be 204,800


# Cosine, affine, alternating, few dimensions --------------------------------------------------------------------


def test_cosine_chooses_by_angle() -> None:
    quantizer, z = CosineVectorQuantizer(16, 4, generator=rng()), 5 * randn(60, 4, seed=1)
    out = quantizer(z)
    cosine = torch.cosine_similarity(z.unsqueeze(1), quantizer.codebook.unsqueeze(0), dim=-1)  # (N, K)
    assert torch.equal(out.codes, cosine.argmax(-1))
    torch.testing.assert_close(out.z_q, normalize(quantizer.codebook, dim=-1)[out.codes])
    torch.testing.assert_close(out.terms["commitment"], (2 - 2 * cosine.amax(-1)).mean() / 4)  # |u - v|²
    assert torch.equal(quantizer(3 * z).codes, out.codes)
    assert quantizer(torch.zeros(1, 4)).z_q.isfinite().all()


def test_learned_affine_map() -> None:
    quantizer = AffineVectorQuantizer(16, 3, eta=2.0, generator=rng())
    assert torch.equal(quantizer.effective_codebook(), quantizer.codebook)
    quantizer.scale.data, quantizer.shift.data = randn(3, seed=1), randn(3, seed=2)
    for k in range(16):
        expected = (1 + 2 * quantizer.scale) * quantizer.codebook[k] + 2 * quantizer.shift
        torch.testing.assert_close(quantizer.effective_codebook()[k], expected)
    z = randn(40, 3, seed=3)
    assert torch.equal(quantizer(z).codes, nearest_code(z, quantizer.effective_codebook()))


def test_running_affine_map() -> None:
    quantizer = AffineVectorQuantizer(16, 3, statistics="running", generator=rng())
    running: list[Tensor] = []
    for step in range(3):
        z = (step + 2) * randn(4, 10, 3, seed=step) + step
        quantizer.codebook.data += 0.1
        flat, codes = z.reshape(-1, 3), quantizer.codebook.detach()
        new = [flat.mean(0), flat.var(0, correction=0), codes.mean(0), codes.var(0, correction=0)]
        running = new if step == 0 else [0.9 * r + 0.1 * n for r, n in zip(running, new, strict=True)]
        quantizer(z)
        z_mean, z_var, code_mean, code_var = running
        expected = (z_var / code_var).sqrt() * (codes - code_mean) + z_mean
        torch.testing.assert_close(quantizer.effective_codebook(), expected, atol=1e-4, rtol=1e-4)
    first = AffineVectorQuantizer(16, 3, statistics="running", generator=rng())
    first(z)  # after one batch the codes have the moments of its vectors
    moved = first.effective_codebook()
    torch.testing.assert_close(moved.mean(0), z.mean((0, 1)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved.var(0, correction=0), z.var((0, 1), correction=0), atol=1e-4, rtol=1e-4)
    for settings in (dict(statistics="best"), dict(eta=0.0), dict(momentum=0.0)):
        with pytest.raises(ValueError, match=next(iter(settings))):
            AffineVectorQuantizer(16, 3, **settings)


@pytest.mark.parametrize("kind", [VectorQuantizer, CosineVectorQuantizer, AffineVectorQuantizer])
def test_alternating_is_a_step_of_sgd_that_keeps_the_codes(kind: type) -> None:
    quantizer = Alternating(kind(8, 3, generator=rng()), lr=3.0, momentum=0.7)
    plain = kind(8, 3, generator=rng())
    optimiser = torch.optim.SGD([plain.codebook], lr=3.0, momentum=0.7)
    for step in range(4):
        z = randn(5, 6, 3, seed=step)
        z_n, codes = plain.assign(z)
        optimiser.zero_grad()
        plain.read(z_n, codes).terms["codebook"].backward()
        optimiser.step()
        expected, out = plain.read(z_n, codes), quantizer(z)
        assert torch.equal(out.codes, codes)
        torch.testing.assert_close(out.z_q, expected.z_q)
        torch.testing.assert_close(out.terms, expected.terms)
        torch.testing.assert_close(quantizer.codebook, plain.codebook)
    assert quantizer.codebook.grad is None
    for wrong in (EMAVectorQuantizer(8, 3), quantizer):
        with pytest.raises(ValueError, match="learned codebook"):
            Alternating(wrong)
    for settings in (dict(lr=0.0), dict(momentum=1.0)):
        with pytest.raises(ValueError, match="lr"):
            Alternating(plain, **settings)


def test_low_dimensional_quantises_between_two_maps() -> None:
    torch.manual_seed(0)
    inner = VectorQuantizer(16, 2, generator=rng())
    quantizer, z = LowDimensional(inner, 7), randn(4, 5, 7, seed=1)
    out, small = quantizer(z), inner(quantizer.down(z))
    assert (quantizer.dim, quantizer.input_dim, inner.dim) == (7, 7, 2)
    assert torch.equal(out.codes, small.codes)
    torch.testing.assert_close(out.z_q, quantizer.up(small.z_q))
    assert torch.equal(out.terms["codebook"], small.terms["codebook"])
    quantizer.initialise(randn(100, 7, seed=2), rng(3))
    assert (quantizer(randn(200, 7, seed=2)).usage > 0).all()
    with pytest.raises(ValueError, match="dim"):
        LowDimensional(inner, 0)
    with pytest.raises(ValueError, match="GumbelQuantizer"):
        LowDimensional(GumbelQuantizer(4, 4), 4)  # type: ignore[arg-type]


# Revival --------------------------------------------------------------------------------------------------------


def test_revive_moves_the_dead_to_different_vectors() -> None:
    codebook, z = randn(10, 3), randn(4, 5, 3, seed=1)
    dead = torch.arange(10) % 2 == 0
    found = revive(codebook, dead, z, noise=0.0, generator=rng(2))
    assert torch.equal(found[~dead], codebook[~dead])
    rows = (found[dead].unsqueeze(1) == z.reshape(-1, 3)).all(-1).nonzero()[:, 1].tolist()
    assert len(set(rows)) == 5
    moved = revive(codebook, dead, z, noise=0.01, generator=rng(2))
    distance, length = (moved - found)[dead].norm(dim=-1), found[dead].norm(dim=-1)
    assert ((distance > 0) & (distance < 0.05 * length)).all()
    assert torch.equal(revive(codebook, dead, z, generator=rng(2)), moved)
    few = revive(codebook, dead, z[0, :2], noise=0.0, generator=rng(2))  # fewer vectors than codes
    assert len(few[dead].unique(dim=0)) == 2
    for wrong in (randn(5, 2), torch.empty(0, 3)):
        with pytest.raises(ValueError, match="at least one vector"):
            revive(codebook, dead, wrong, generator=rng())


REVIVABLE = {
    "plain": VectorQuantizer,
    "ema": EMAVectorQuantizer,
    "cosine": CosineVectorQuantizer,
    "affine": AffineVectorQuantizer,
}


@pytest.mark.parametrize("kind", list(REVIVABLE))
def test_a_code_revives_after_timeout_idle_batches_where_the_data_is(kind: str) -> None:
    inner = REVIVABLE[kind](4, 3, generator=rng())
    if kind == "affine":
        inner.scale.data, inner.shift.data = 0.2 * randn(3, seed=5), randn(3, seed=6)
    with torch.no_grad():
        inner.restart(torch.ones(4, dtype=torch.bool), torch.tensor([1.0, -9, -9]) * torch.ones(4, 1))
        inner.restart(torch.tensor([True, False, False, False]), torch.ones(4, 3))
    quantizer = Revival(inner, timeout=3, noise=0.0)
    z = 1 + 0.2 * randn(20, 3, seed=1)
    for _ in range(3):
        before = quantizer.codebook.clone()
        assert quantizer(z).usage.tolist() == [20, 0, 0, 0]
        if kind != "ema":
            assert torch.equal(quantizer.codebook, before)
    assert quantizer.countdown.tolist() == [3, 0, 0, 0]
    quantizer.eval()(z)
    assert quantizer.countdown.tolist() == [3, 0, 0, 0]
    living = quantizer.effective_codebook()[0].clone()
    restarted: list[Tensor] = []
    original = inner.restart
    inner.restart = lambda which, vectors: (  # type: ignore[method-assign]
        original(which, vectors),
        restarted.append(inner.effective_codebook().clone()),
    )
    out = quantizer.train()(z)
    torch.testing.assert_close(restarted[0][0], living)
    gap = (restarted[0][1:].unsqueeze(1) - inner.search_space(z)).norm(dim=-1)  # (3, N)
    assert (gap.amin(-1) < 1e-5).all()  # the effective codes lie on vectors of the batch
    assert len(set(gap.argmin(-1).tolist())) == 3
    assert (out.usage > 0).all() and quantizer.countdown.tolist() == [3, 3, 3, 3]
    if kind == "ema":
        inner.restart(torch.tensor([False, True, False, False]), torch.zeros(4, 3))
        assert inner.counts[1] == 1 and inner.sums[1].tolist() == [0, 0, 0]


def test_revival_spreads_usage() -> None:
    z = randn(500, 2)
    alone = VectorQuantizer(64, 2, generator=rng())
    alone.codebook.data += 3
    revived = Revival(VectorQuantizer(64, 2, generator=rng()), timeout=2)
    revived.codebook.data += 3
    for _ in range(6):
        revived(z)
    assert (revived(z).usage > 0).sum() > 50 > 20 > (alone(z).usage > 0).sum()
    for settings in (dict(timeout=0), dict(noise=-1.0)):
        with pytest.raises(ValueError, match="timeout"):
            Revival(alone, **settings)


# Gumbel ---------------------------------------------------------------------------------------------------------


def test_gumbel_noise_has_its_moments_and_is_finite() -> None:
    noise = gumbel_noise((2_000_000,), generator=rng())
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.57722, abs=4e-3)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=1e-2)
    below = (noise <= 0.0).double().mean().item()
    assert below == pytest.approx(math.exp(-1), abs=2e-3)  # P(G <= g) = exp(-exp(-g))
    assert torch.equal(gumbel_noise((3,), generator=rng()), gumbel_noise((3,), generator=rng()))
    assert gumbel_noise((2, 3), like=torch.zeros(1, dtype=torch.float16)).dtype == torch.float32
    assert gumbel_noise((2, 3), like=torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_the_largest_entry_is_a_draw_at_any_temperature(temperature: float) -> None:
    logits, draws = randn(6), 200_000
    y = gumbel_softmax(logits.expand(draws, 6), temperature, generator=rng(1))
    torch.testing.assert_close(y.sum(-1), torch.ones(draws))
    seen = torch.bincount(y.argmax(-1), minlength=6).double()
    expected = draws * logits.double().softmax(-1)
    chi_square = ((seen - expected).square() / expected).sum().item()
    assert chi_square < 20.5  # 5 degrees of freedom: exceeded once in a thousand


def test_mean_of_two_relaxed_codes_in_closed_form() -> None:
    for difference in (0.5, 2.0):
        a = math.exp(difference)
        logits = torch.tensor([difference, 0.0]).expand(1_000_000, 2)
        y = gumbel_softmax(logits, 1.0, generator=rng())
        assert y[:, 0].mean().item() == pytest.approx(a * (a - 1 - math.log(a)) / (a - 1) ** 2, abs=1.5e-3)


def test_cold_draws_are_one_hot_and_hard_ones_exactly_so() -> None:
    logits = randn(1000, 8, seed=1).requires_grad_()
    cold = gumbel_softmax(logits, 1e-4, generator=rng())
    hard = gumbel_softmax(logits, 0.7, hard=True, generator=rng())
    soft = gumbel_softmax(logits, 0.7, generator=rng())
    assert set(hard.unique().tolist()) == {0.0, 1.0} and torch.equal(hard.sum(-1), torch.ones(1000))
    assert torch.equal(hard.argmax(-1), soft.argmax(-1)) and torch.equal(cold.argmax(-1), soft.argmax(-1))
    assert (cold.amax(-1) > 0.999).float().mean() > 0.99
    weight = randn(1000, 8, seed=2)
    one, two = (torch.autograd.grad((y * weight).sum(), logits)[0] for y in (hard, soft))
    torch.testing.assert_close(one, two)


def test_gumbel_softmax_does_not_lose_noise_or_precision() -> None:
    logits = randn(100, 5)
    plain = gumbel_softmax(logits, 0.5, generator=rng())
    torch.testing.assert_close(gumbel_softmax(logits + 1e4, 0.5, generator=rng()), plain, atol=1e-2, rtol=0)
    half = gumbel_softmax(logits.half(), 0.5, generator=rng())
    assert half.dtype == torch.float32
    assert torch.equal(half, gumbel_softmax(logits.half().float(), 0.5, generator=rng()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gumbel_softmax(logits, 0.5, generator=rng()), plain)
    assert gumbel_softmax(torch.tensor([0.0, -1e30]), 1e-3, generator=rng()).tolist() == [1.0, 0.0]
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature"):
            gumbel_softmax(logits, wrong)
    with pytest.raises(ValueError, match=r"\(2, 0\)"):
        gumbel_softmax(torch.empty(2, 0), 1.0)


def test_exponential_schedule() -> None:
    values = [exponential_schedule(step, 1.0, 1 / 16, 100) for step in (-5, 0, 25, 50, 100, 1000)]
    assert values == pytest.approx([1, 1, 0.5, 0.25, 1 / 16, 1 / 16])
    assert exponential_schedule(torch.tensor(50), 1.0, 1 / 16, 100).item() == pytest.approx(0.25)
    for wrong in ((0.0, 1.0, 10), (1.0, 0.0, 10), (1.0, 0.5, 0)):
        with pytest.raises(ValueError, match="start and end"):
            exponential_schedule(0, *wrong)


def test_gumbel_quantizer_mixes_and_then_chooses() -> None:
    quantizer, logits = GumbelQuantizer(8, 3, steps=2, generator=rng()), randn(20, 30, 8, seed=1)
    q = logits.double().softmax(-1)
    kl = (q * (q * 8).log()).sum(-1).mean().float()
    for temperature in (1.0, 0.25, 1 / 16, 1 / 16):
        assert quantizer.temperature.item() == pytest.approx(temperature)
        torch.manual_seed(0)
        expected = gumbel_softmax(logits, temperature)
        torch.manual_seed(0)
        out = quantizer(logits)
        torch.testing.assert_close(out.z_q, expected @ quantizer.codebook, atol=1e-5, rtol=1e-5)
        assert torch.equal(out.codes, expected.argmax(-1))
        torch.testing.assert_close(out.terms["kl"], kl)
    out = quantizer.eval()(logits)
    assert torch.equal(out.codes, logits.argmax(-1)) and torch.equal(out.z_q, quantizer.codebook[out.codes])
    assert quantizer.temperature.item() == pytest.approx(1 / 16)
    hard = GumbelQuantizer(8, 3, hard=True, generator=rng())
    out = hard(logits)
    torch.testing.assert_close(out.z_q, hard.codebook[out.codes])


# SQ-VAE ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["I", "II", "III", "IV"])
def test_sqvae_is_its_definition(variant: str) -> None:
    quantizer = SQVAEQuantizer(8, 3, variant=variant, log_variance=0.3, generator=rng()).double()
    z_e = randn(2, 4, 5, quantizer.input_dim, seed=1, dtype=torch.float64)
    z, lam, codebook = z_e[..., :3], math.exp(0.3), quantizer.codebook.detach()
    log_q, variances = torch.empty(2, 4, 5, 8, dtype=torch.float64), torch.empty_like(z)
    for b in range(2):
        for i in range(4):
            for j in range(5):
                v = z_e[b, i, j, 3:]
                variances[b, i, j] = (
                    lam
                    + {
                        "I": lambda: torch.ones(3, dtype=torch.float64),
                        "II": lambda b=b: z_e[b, ..., 3:].mean().exp(),
                        "III": lambda v=v: v.mean().exp(),
                        "IV": lambda v=v: v.exp(),
                    }[variant]()
                )
                gap = (z[b, i, j] - codebook).square()  # (K, D)
                log_q[b, i, j] = (-gap / (2 * variances[b, i, j])).sum(-1).log_softmax(-1)
    for training in (True, False):
        torch.manual_seed(0)
        out = quantizer.train(training)(z_e)
        torch.manual_seed(0)
        hard = torch.eye(8, dtype=torch.float64)[log_q.argmax(-1)]
        expected = gumbel_softmax(log_q, 1.0) if training else hard
        torch.testing.assert_close(out.z_q, expected @ codebook)
        assert torch.equal(out.codes, expected.argmax(-1))
        torch.testing.assert_close(out.terms["negative_entropy"], (log_q.exp() * log_q).sum() / 2)
        distance = ((z - out.z_q).square() / (2 * variances)).sum() / 2
        torch.testing.assert_close(out.terms["distance"], distance)
    assert quantizer.step == 1


def test_sqvae_defaults_are_the_authors() -> None:
    quantizer = SQVAEQuantizer(8, 3)
    assert quantizer.log_variance.item() == pytest.approx(math.log(20))
    assert quantizer.temperature == 1
    for step in (1_000, 100_000):
        quantizer.step = torch.tensor(step)
        assert quantizer.temperature.item() == pytest.approx(math.exp(-1e-5 * step), rel=1e-5)
    with pytest.raises(ValueError, match="variant"):
        SQVAEQuantizer(8, 3, variant="V")  # type: ignore[arg-type]
    for settings in (dict(steps=0), dict(end=0.0)):
        with pytest.raises(ValueError, match="start and end"):
            SQVAEQuantizer(8, 3, **settings)


def test_sqvae_reconstruction_is_the_likelihood_at_its_best_variance() -> None:
    x, x_hat = torch.rand(5, 3, 4, 4, generator=rng()), torch.rand(5, 3, 4, 4, generator=rng(1))
    quantized = SQVAEQuantizer(8, 3)(randn(5, 2, 2, 3))
    out = VQVAEOutput(x_hat, randn(5, 2, 2, 3), quantized)
    terms = sqvae_terms(x, out)
    error = (x - x_hat).square().sum().item() / 5
    assert terms["reconstruction"].item() == pytest.approx(48 / 2 * math.log(error), rel=1e-5)
    torch.testing.assert_close(sqvae_loss(x, out), sum(terms.values()))
    negative = [error / (2 * s) + 24 * math.log(s) for s in torch.logspace(-3, 1, 4001).tolist()]
    constant = 24 - 24 * math.log(48)  # what the profile likelihood leaves out
    assert min(negative) == pytest.approx(terms["reconstruction"].item() + constant, abs=1e-3)
    plain = VectorQuantizer(8, 3)(randn(5, 2, 2, 3))
    with pytest.raises(ValueError, match="SQVAEQuantizer"):
        sqvae_terms(x, out._replace(quantized=plain))


# Start ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quantizer",
    [
        EMAVectorQuantizer(8, 4),
        CosineVectorQuantizer(8, 4),
        AffineVectorQuantizer(8, 4),
        Revival(Alternating(AffineVectorQuantizer(8, 4, statistics="running"))),
    ],
    ids=lambda q: type(q).__name__,
)
def test_initialise_puts_effective_codes_among_the_data(quantizer: VectorQuantizer | Revival) -> None:
    z = randn(2, 16, 16, 4) + 5
    quantizer.initialise(z, rng(1))
    out = quantizer.eval()(z)
    assert (out.usage > 0).all()
    points = quantizer.search_space(z).reshape(-1, 4)
    assert (quantizer.effective_codebook() - points.mean(0)).square().mean() < 2 * points.var(0).mean() + 1e-3
    assert out.terms["commitment"] < points.var(0).mean()
    with pytest.raises(ValueError, match="between 1 and the 3"):
        quantizer.initialise(z[0, 0, :3], rng(1))

"""Gradient estimators against enumeration, closed forms and each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vqbook.estimators import (
    exact_gradient,
    gumbel_rao,
    gumbel_softmax_gradient,
    leave_one_out,
    measure_error,
    score_function,
    straight_through_gumbel,
)
from vqbook.quantizers.gumbel import gumbel_noise, gumbel_softmax

ALL = (score_function, leave_one_out, gumbel_softmax_gradient, straight_through_gumbel, gumbel_rao)
UNBIASED = (score_function, leave_one_out)


def curved(y: Tensor) -> Tensor:
    """A loss that is not linear inside the simplex."""
    return (2 * y @ torch.arange(y.shape[-1]).to(y)).sin() + y.square().sum(-1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_exact_gradient_is_that_of_the_expected_loss() -> None:
    logits = torch.randn(3, 5, generator=seeded(), dtype=torch.float64, requires_grad=True)
    expected = (logits.softmax(-1) * curved(torch.eye(5, dtype=torch.float64))).sum()
    (by_autograd,) = torch.autograd.grad(expected, logits)
    exact = exact_gradient(curved, logits)
    torch.testing.assert_close(exact, by_autograd)
    assert exact.sum(-1).abs().max() < 1e-12
    assert not exact.requires_grad


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_shapes_determinism_and_no_graph(estimator, lead: tuple[int, ...]) -> None:
    logits = torch.randn(*lead, 6, generator=seeded(), requires_grad=True)
    g = estimator(curved, logits, seeded(1), 7)
    assert g.shape == (7, *lead, 6) and not g.requires_grad
    assert torch.equal(g, estimator(curved, logits, seeded(1), 7))
    assert not torch.equal(g, estimator(curved, logits, seeded(2), 7))
    assert g.sum(-1).abs().max() < 1e-4  # no estimate moves the constant that softmax does not see


@pytest.mark.parametrize("estimator", UNBIASED)
def test_score_functions_are_unbiased(estimator) -> None:
    logits = 1.5 * torch.randn(5, generator=seeded(), dtype=torch.float64)
    g = estimator(curved, logits, seeded(1), 100_000)
    z = (g.mean(0) - exact_gradient(curved, logits)) / (g.std(0) / math.sqrt(len(g)))
    assert z.abs().max() < 4


def test_a_baseline_keeps_the_mean_and_changes_the_variance() -> None:
    logits = torch.randn(5, generator=seeded(), dtype=torch.float64)

    def shifted(y: Tensor) -> Tensor:
        return curved(y) + 100

    exact = exact_gradient(shifted, logits)
    plain = measure_error(score_function(shifted, logits, seeded(1), 20_000), exact)
    based = measure_error(score_function(shifted, logits, seeded(1), 20_000, baseline=100.0), exact)
    assert based.variance < plain.variance / 1_000
    assert based.bias_sq.abs() < 4 * based.variance / 20_000
    pair = leave_one_out(shifted, logits, seeded(2), 20_000, group=2)
    torch.testing.assert_close(pair, leave_one_out(curved, logits, seeded(2), 20_000, group=2))


def test_relaxed_gradient_agrees_with_autograd_through_gumbel_softmax() -> None:
    logits = torch.randn(6, generator=seeded(), dtype=torch.float64)
    for hard, estimator in ((False, gumbel_softmax_gradient), (True, straight_through_gumbel)):
        ours = estimator(curved, logits, seeded(3), 9, temperature=0.7)
        leaf = logits.expand(9, 6).clone().requires_grad_()
        y = gumbel_softmax(leaf, 0.7, hard=hard, generator=seeded(3))
        torch.testing.assert_close(ours, torch.autograd.grad(curved(y).sum(), leaf)[0])


BINARY = [  # logit difference, exact, relaxed, relative bias in per cent: the closed form
    (0.05, 0.24984, 0.16663, -33),
    (0.5, 0.23500, 0.16256, -31),
    (1.0, 0.19661, 0.15095, -23),
    (2.0, 0.10499, 0.11333, 8),
    (4.0, 0.01766, 0.04085, 131),
    (8.0, 0.00034, 0.00202, 501),
]


@pytest.mark.parametrize(("difference", "exact", "relaxed", "percent"), BINARY)
def test_two_codes_and_a_linear_loss(difference: float, exact: float, relaxed: float, percent: int) -> None:
    """E[y] = a (a - 1 - ln a) / (a - 1)^2 with a = exp(logit difference), at temperature one."""
    logits = torch.tensor([difference, 0.0], dtype=torch.float64)

    def linear(y: Tensor) -> Tensor:
        return y[..., 0]

    d = torch.tensor(difference, dtype=torch.float64, requires_grad=True)
    a = d.exp()
    (closed,) = torch.autograd.grad(a * (a - 1 - a.log()) / (a - 1) ** 2, d)
    truth = exact_gradient(linear, logits)[0]
    assert abs(truth.item() - exact) < 1e-5 and abs(closed.item() - relaxed) < 1e-5
    assert abs(100 * (closed / truth - 1) - percent) < 1
    for estimator in (gumbel_softmax_gradient, straight_through_gumbel, gumbel_rao):
        g = estimator(linear, logits, seeded(), 50_000)[:, 0]
        z = (g.mean() - closed.detach()) / (g.std() / math.sqrt(len(g)))
        assert z.abs() < 4, estimator.__name__


def test_gumbel_max_draws_from_the_softmax() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, -3.0])
    n = 200_000
    winners = (logits + gumbel_noise((n, 5), generator=seeded(), like=logits)).argmax(-1)
    counts, expected = torch.bincount(winners, minlength=5), n * logits.softmax(-1)
    chi_square = ((counts - expected).square() / expected).sum()
    assert chi_square < 18.5  # 0.1 % point of chi-square with four degrees of freedom


def test_the_relaxed_mean_tends_to_q() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    gaps = []
    for temperature in (2.0, 0.5, 0.05):
        y = gumbel_softmax(logits.expand(100_000, 4), temperature, generator=seeded())
        torch.testing.assert_close(y.sum(-1), torch.ones(len(y)))
        gaps.append((y.mean(0) - logits.softmax(-1)).norm())
    assert gaps[0] > 3 * gaps[1] > 6 * gaps[2] and gaps[2] < 5e-3


def test_rao_blackwell_keeps_the_mean_and_lowers_the_variance() -> None:
    logits = torch.randn(5, generator=seeded(), dtype=torch.float64)
    plain = straight_through_gumbel(curved, logits, seeded(1), 40_000, temperature=0.3)
    rao = gumbel_rao(curved, logits, seeded(2), 40_000, temperature=0.3, inner=20)
    error = (plain.var(0) / len(plain) + rao.var(0) / len(rao)).sqrt()
    assert ((plain.mean(0) - rao.mean(0)) / error).abs().max() < 4
    assert rao.var(0).sum() < 0.5 * plain.var(0).sum()


def test_cold_samples_have_less_bias_and_more_variance() -> None:
    logits = torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64)
    exact = exact_gradient(curved, logits)
    warm, cold = (
        measure_error(gumbel_softmax_gradient(curved, logits, seeded(), 100_000, temperature=t), exact)
        for t in (1.0, 0.1)
    )
    assert cold.bias_sq < warm.bias_sq / 5
    assert cold.variance > 5 * warm.variance


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([0.0, -200.0, 90.0, 1e4])
    for estimator in ALL:
        assert estimator(curved, logits, seeded(), 50).isfinite().all(), estimator.__name__


def test_the_measured_bias_is_debiased() -> None:
    exact = torch.tensor([1.0, 2.0])
    estimates = exact + torch.randn(5_000, 20, 2, generator=seeded())  # 20 estimates, no bias, 5,000 times
    found = measure_error(estimates.transpose(0, 1), exact)
    assert abs(found.bias_sq.mean()) < 4 * found.bias_sq.std() / math.sqrt(5_000)
    assert abs(found.variance.mean() - 2) < 0.02


def test_what_cannot_be_is_named() -> None:
    logits = torch.zeros(3)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        gumbel_softmax_gradient(curved, logits, seeded(), 2, temperature=0.0)
    with pytest.raises(ValueError, match="at least two samples, got 1"):
        leave_one_out(curved, logits, seeded(), 2, group=1)
    with pytest.raises(ValueError, match="floating point"):
        score_function(curved, torch.zeros(3, dtype=torch.int64), seeded(), 2)
    with pytest.raises(ValueError, match="at least two estimates, got 1"):
        measure_error(torch.zeros(1, 3), logits)


def test_gradient_bias_runs_and_reports(tmp_path) -> None:
    from vqbook.gradient_bias import GRADIENT_BIAS, fisher_interval, run_gradient_bias, spearman

    outcome = run_gradient_bias(GRADIENT_BIAS["smoke"], seed=0, progress=False)
    assert outcome.values["absolute_K4_s20"] > 0.3  # few codes, sharp choices: the bias grows with entropy
    assert outcome.values["absolute_K64_s0.5"] < 0.2  # many codes, nearly uniform: it does not
    assert outcome.values["relative_K4_all"] < 0 < outcome.values["ranks_K4_s20"]
    assert len(outcome.history["absolute_gumbel-softmax_K64_t1"]) == 3
    again = run_gradient_bias(GRADIENT_BIAS["smoke"], seed=0, progress=False)
    assert again.values == outcome.values
    middle, low, high = fisher_interval([0.6, 0.7, 0.8])
    assert low < 0.6 < middle < 0.8 < high < 1
    with pytest.raises(ValueError, match="at least two"):
        fisher_interval([0.5])
    assert spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 99.0])) == pytest.approx(1)


def test_alignment_tables_agree_with_the_decoder() -> None:
    from vqbook.alignment import ALIGNMENT, gradients, logits, look_at, measure_alignment, share_inside
    from vqbook.experiments import build_vqvae

    s = ALIGNMENT["smoke"]
    model = build_vqvae(3, hidden=8, dim=4, codes=6).eval()
    torch.nn.init.normal_(model.quantizer.codebook)
    x = torch.rand(5, 3, 16, 16, generator=seeded())
    cells = look_at(model, x, seeded())
    q = logits(cells, 1.0).softmax(-1)
    z = cells.z.clone().requires_grad_()
    table = (z[:, None] - cells.codebook).square().sum(-1)
    expected = ((-table / (2 * table.detach().min(-1).values.mean())).softmax(-1) * cells.values).sum()
    (by_autograd,) = torch.autograd.grad(expected, z)
    found = gradients(cells, 1.0, seeded(), 3)
    torch.testing.assert_close(found["exact"], by_autograd, rtol=1e-3, atol=1e-4)
    near = q.argmax(-1)
    v = cells.codebook[near].clone().requires_grad_()
    (slope,) = torch.autograd.grad(cells.loss(v).sum(), v)
    torch.testing.assert_close(found["straight through"][0], slope, rtol=1e-3, atol=1e-4)
    assert {len(g) for name, g in found.items() if "Gumbel" in name} == {3}
    assert share_inside(cells, directions=4) == pytest.approx((1, 1))
    flat = cells._replace(codebook=cells.codebook * torch.tensor([1.0, 1.0, 0.0, 0.0]))
    variance, share = share_inside(flat, directions=2)
    assert variance == pytest.approx(1) and 0 < share < 1  # a sheet of codes: the slope leaves it
    values, history = measure_alignment(model, x, s["widths"], 4, seed=0)
    assert history["widths"] == s["widths"] and all(math.isfinite(v) for v in values.values())

"""The family from ELBO to ALBO and beyond, and what its parts do at the edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vqbook.objectives import (
    aggregate_kl,
    albo,
    albo_lambda,
    categorical_kl,
    code_kl,
    elbo,
    latent_kl,
    miller_madow,
    mutual_information,
)


def rows(n: int, k: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(n, k, generator=generator, dtype=torch.float64)).log_softmax(-1)


def test_the_family_is_a_line_of_slope_information() -> None:
    log_q, log_prior = rows(30, 6), rows(1, 6, seed=1)[0]
    log_lik, latent = rows(30, 1, seed=2) + torch.randn(30, 1, dtype=torch.float64), torch.rand(30).double()
    parts = (log_lik, latent, log_q, log_prior)
    information = mutual_information(log_q)
    assert 0 < information < math.log(6)
    for lam in (-1.0, 0.5, 2.0):
        torch.testing.assert_close(albo_lambda(*parts, lam), elbo(*parts) + lam * information)
    torch.testing.assert_close(albo(*parts), elbo(*parts) + information)
    torch.testing.assert_close(
        elbo(*parts), log_lik.mean() - latent.mean() - code_kl(log_q, log_prior), msg="reductions are means"
    )


def test_one_row_knows_nothing() -> None:
    """With one position in a batch the aggregate is the row itself: ALBO is the ELBO."""
    log_q, log_prior = rows(1, 6), rows(1, 6, seed=1)[0]
    torch.testing.assert_close(aggregate_kl(log_q, log_prior), code_kl(log_q, log_prior))
    assert mutual_information(log_q).abs() < 1e-15


def test_all_shapes_of_positions_count_alike() -> None:
    log_q, log_prior = rows(24, 6), rows(1, 6, seed=1)[0]
    for function in (aggregate_kl, code_kl):
        torch.testing.assert_close(function(log_q.reshape(2, 3, 4, 6), log_prior), function(log_q, log_prior))


def test_a_code_that_nobody_takes_has_a_finite_gradient() -> None:
    q = torch.tensor([0.5, 0.5, 0.0]).requires_grad_()
    value = categorical_kl(q, torch.full((3,), -math.log(3)))
    assert float(value.detach()) == pytest.approx(math.log(3) - math.log(2), abs=1e-6)
    value.backward()
    assert q.grad.isfinite().all()
    assert latent_kl(torch.zeros(2), 1.0, 4).isfinite().all()


def test_corrected_entropy_of_counts() -> None:
    counts = torch.tensor([[3, 1, 0, 0], [5, 0, 0, 0]])
    plain = math.log(4) - 0.75 * math.log(3)
    want = torch.tensor([plain + 1 / 8, 0.0], dtype=torch.float64)
    torch.testing.assert_close(miller_madow(counts), want)

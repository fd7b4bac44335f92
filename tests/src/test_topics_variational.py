"""The small variational LDA: its bound, its updates, and the bars that it has to find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vqbook.data.bars import bar_topics, bars
from vqbook.topics.variational import fit_lda, infer_gamma, lda_bound


def test_steps_raise_the_bound_and_end_in_a_fixed_point():
    rng = np.random.default_rng(0)
    counts, beta = rng.poisson(1.0, (6, 9)).astype(float), rng.dirichlet(np.ones(9), 4)
    gamma = np.ones((6, 4))
    before = lda_bound(counts, beta, 0.3, gamma)
    for _ in range(20):
        gamma = infer_gamma(counts, beta, 0.3, gamma=gamma, steps=1)
        now = lda_bound(counts, beta, 0.3, gamma)
        assert (now >= before - 1e-9).all()
        before = now
    gamma = infer_gamma(counts, beta, 0.3, steps=3_000)
    np.testing.assert_allclose(infer_gamma(counts, beta, 0.3, gamma=gamma, steps=1), gamma, rtol=1e-8)
    np.testing.assert_allclose(gamma.sum(1), counts.sum(1) + 4 * 0.3)


def test_a_bag_without_words_keeps_the_prior():
    gamma = infer_gamma(np.zeros((1, 3)), np.full((2, 3), 1 / 3), 0.7)
    np.testing.assert_allclose(gamma, 0.7)
    np.testing.assert_allclose(lda_bound(np.zeros((1, 3)), np.full((2, 3), 1 / 3), 0.7, gamma), 0, atol=1e-12)


def test_the_best_start_finds_the_bars():
    counts, true = bars(n=500).counts.toarray().astype(float), bar_topics().numpy()
    fits = [fit_lda(counts, 10, 1.0, rng=np.random.default_rng(seed)) for seed in range(4)]
    best = max(fits, key=lambda fit: fit.bound).beta
    off = 0.5 * np.abs(best[:, None] - true).sum(-1)
    assert off[linear_sum_assignment(off)].max() < 0.06
    again = fit_lda(counts, 10, 1.0, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(again.beta, fits[3].beta)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and beta \(4, 5\)"):
        infer_gamma(np.ones((2, 3)), np.ones((4, 5)), 1.0)
    with pytest.raises(ValueError, match="positive, got 0"):
        infer_gamma(np.ones((2, 3)), np.ones((4, 3)), 0)

"""Latent Dirichlet allocation by coordinate ascent on its bound: small, exact in its arithmetic, for small corpora."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln

SMOOTHING = 1e-3  # added to expected counts: a word that no topic has could never come back


class VariationalLDA(NamedTuple):
    """A fit: topics (T, V), the Dirichlets of the documents' proportions (N, T), and the bound, nats in all."""

    beta: np.ndarray
    gamma: np.ndarray
    bound: float


def pull(gamma: np.ndarray) -> np.ndarray:
    r"""$\exp \mathbb{E}[\log\theta_{dt}]$ under Dirichlets gamma, (N, T): what a topic's share counts for."""
    return np.exp(digamma(gamma) - digamma(gamma.sum(-1, keepdims=True)))


def infer_gamma(
    counts: np.ndarray, beta: np.ndarray, alpha: float, *, gamma: np.ndarray | None = None, steps: int = 100
) -> np.ndarray:
    r"""Posterior Dirichlets of the proportions of documents, topics given.

    $\gamma_{dt} = \alpha + \sum_w n_{dw} \phi_{dwt}$, $\phi_{dwt} \propto \beta_{tw} \exp\mathbb{E}[\log\theta_{dt}]$

    Args:
        counts: bags of words, dense, (N, V).
        beta: topics, (T, V), positive; rows need not sum to 1.
        alpha: concentration of the symmetric Dirichlet prior.
        gamma: where to start, (N, T); ones by default.
        steps: rounds of both updates.
    Returns:
        gamma, (N, T).
    Raises:
        ValueError: arrays that do not fit, or alpha that is not positive.

    Blei, Ng and Jordan, 2003; chapter 10.
    """
    if counts.ndim != 2 or beta.ndim != 2 or counts.shape[1] != beta.shape[1]:
        raise ValueError(f"counts {counts.shape} and beta {beta.shape} should be (N, V) and (T, V)")
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    gamma = np.ones((len(counts), len(beta))) if gamma is None else gamma
    for _ in range(steps):
        share = pull(gamma)
        gamma = alpha + share * ((counts / (share @ beta)) @ beta.T)
    return gamma


def lda_bound(counts: np.ndarray, beta: np.ndarray, alpha: float, gamma: np.ndarray) -> np.ndarray:
    r"""Evidence bound of each document with the best assignments for this gamma, in nats, (N,).

    $\sum_w n_{dw} \log\sum_t e^{\mathbb{E}\log\theta_{dt}} \beta_{tw} - \mathrm{KL}(\mathrm{Dir}(\gamma_d) \Vert
    \mathrm{Dir}(\alpha))$

    Args:
        counts, beta, alpha: as in `infer_gamma`; rows of beta sum to 1.
        gamma: any Dirichlets, (N, T).

    Chapter 10.
    """
    topics, total = gamma.shape[1], gamma.sum(1)
    share = pull(gamma)
    divergence = gammaln(total) - gammaln(gamma).sum(1) - gammaln(alpha * topics) + topics * gammaln(alpha)
    divergence += ((gamma - alpha) * np.log(share)).sum(1)
    return (counts * np.log(share @ beta)).sum(1) - divergence


def fit_lda(
    counts: np.ndarray, num_topics: int, alpha: float, *, rounds: int = 150, rng: np.random.Generator
) -> VariationalLDA:
    r"""Fit topics by turns: five steps of `infer_gamma`, then $\beta_{tw} \propto \sum_d n_{dw} \phi_{dwt}$.

    Args:
        counts: bags of words, dense, (N, V): for small corpora; `vqbook.topics.LDA` is for large ones.
        num_topics: T.
        alpha: concentration of the symmetric Dirichlet prior.
        rounds: how many turns.
        rng: of the start. Different starts end in different topics: compare their bounds.
    """
    beta = rng.dirichlet(np.full(counts.shape[1], 50.0), num_topics)
    gamma = np.ones((len(counts), num_topics))
    for _ in range(rounds):
        gamma = infer_gamma(counts, beta, alpha, gamma=gamma, steps=5)
        share = pull(gamma)
        beta = beta * (share.T @ (counts / (share @ beta))) + SMOOTHING
        beta /= beta.sum(1, keepdims=True)
    return VariationalLDA(beta, gamma, float(lda_bound(counts, beta, alpha, gamma).sum()))

"""How good topics are: coherence (NPMI), diversity, their product, and agreement with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vqbook.topics.cooccurrence import TOP, Cooccurrence, as_topics
from vqbook.topics.corpus import Corpus

DIVERSITY_TOP = 25


def npmi(topics: Any, corpus: Corpus, *, window: int | None = 10, exact: bool = False) -> np.ndarray:
    """`Cooccurrence.npmi` of topics (T, n) with counts made for their ten first words only, (T,) float64."""
    top = as_topics(topics)
    return Cooccurrence(corpus, top[:, :TOP], window=window, exact=exact).npmi(top)


def diversity(topics: Any) -> float:
    """Share of distinct words among the 25 first words of all topics, in [1 / T, 1].

    Args:
        topics: word numbers, best first, (T, n); fewer than 25 are taken as they are.
    """
    top = as_topics(topics)[:, :DIVERSITY_TOP]
    return len(np.unique(top)) / top.size


class TopicScores(NamedTuple):
    """Coherence, diversity and quality (their product) over all topics and over the best half."""

    npmi: float
    diversity: float
    quality: float
    best_npmi: float
    best_diversity: float
    best_quality: float
    each_npmi: np.ndarray


def topic_scores(topics: Any, cooccurrence: Cooccurrence) -> TopicScores:
    r"""Score topics by both conventions.

    The best half are the $\lfloor T/2 \rfloor$ topics (at least one) of highest NPMI, as in the tables of
    TVQ-VAE (Yoo and Choi 2024): numbers over all topics and over the best half do not compare.

    Args:
        topics: word numbers, best first, (T, 25): 10 for the coherence, 25 for the diversity.
        cooccurrence: counts that know these words.
    """
    top = as_topics(topics)
    each = cooccurrence.npmi(top)
    best = np.argsort(-each, kind="stable")[: max(len(each) // 2, 1)]
    coherence, spread = float(each.mean()), diversity(top)
    best_coherence, best_spread = float(each[best].mean()), diversity(top[best])
    return TopicScores(
        npmi=coherence,
        diversity=spread,
        quality=coherence * spread,
        best_npmi=best_coherence,
        best_diversity=best_spread,
        best_quality=best_coherence * best_spread,
        each_npmi=each,
    )


def purity(clusters: Any, labels: Any) -> float:
    r"""Share of documents that carry their cluster's commonest label, $\frac1N\sum_j \max_l n_{jl}$.

    Args:
        clusters, labels: (N,) integers.
    """
    from sklearn.metrics.cluster import contingency_matrix

    a, b = _same_length(clusters, labels)
    return float(contingency_matrix(b, a).max(0).sum() / len(a))


def nmi(clusters: Any, labels: Any) -> float:
    """Normalised mutual information of clusters and labels, by the arithmetic mean of their entropies.

    Args:
        clusters, labels: (N,) integers.
    """
    from sklearn.metrics import normalized_mutual_info_score

    a, b = _same_length(clusters, labels)
    return float(normalized_mutual_info_score(b, a, average_method="arithmetic"))


def cluster_scores(theta: Any, labels: Sequence[int] | np.ndarray, seed: int = 0) -> dict[str, float]:
    """Purity and NMI of documents grouped by their topics.

    Args:
        theta: topic proportions, (N, T).
        labels: (N,) integers.
        seed: of k-means.
    Returns:
        top_purity and top_nmi, a document's cluster being its largest topic; km_purity and km_nmi, by
        k-means on theta with T clusters (best of ten starts).
    """
    from sklearn.cluster import KMeans

    theta = np.asarray(theta, np.float64)
    if theta.ndim != 2 or labels is None or len(theta) != len(labels):
        have = "no labels" if labels is None else f"{len(labels)} labels"
        raise ValueError(f"theta must be (N, T) with N labels, got {theta.shape} and {have}")
    clusters = min(theta.shape[1], len(np.unique(theta, axis=0)))
    means = KMeans(clusters, n_init=10, random_state=seed).fit_predict(theta)
    found = {"top": theta.argmax(1), "km": means}
    scores = {"purity": purity, "nmi": nmi}
    return {f"{how}_{what}": f(at, labels) for how, at in found.items() for what, f in scores.items()}


def _same_length(clusters: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(clusters), np.asarray(labels)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"clusters and labels must be (N,) each, got {a.shape} and {b.shape}")
    return a, b

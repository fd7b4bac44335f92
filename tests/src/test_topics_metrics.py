"""Coherence against gensim and the definition; diversity, best half, purity, NMI."""

from __future__ import annotations

import numpy as np
import pytest

from vqbook.topics import Corpus, cooccurrence, from_counts, metrics


def corpus_of(documents: list[list[int]], words: int) -> Corpus:
    starts = np.cumsum([0, *map(len, documents)])
    flat = np.array([w for d in documents for w in d], np.int32)
    return Corpus([f"w{i}" for i in range(words)], flat, starts)


def random_corpus(seed: int, words: int = 12, longest: int = 30, documents: int = 60) -> Corpus:
    rng = np.random.default_rng(seed)
    return corpus_of(
        [rng.integers(words, size=rng.integers(longest)).tolist() for _ in range(documents)], words
    )


def gensim_npmi(corpus: Corpus, topics: np.ndarray, window: int = 10) -> list[float]:
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel

    ends = zip(corpus.starts[:-1], corpus.starts[1:], strict=True)
    texts = [[corpus.words[i] for i in corpus.tokens[a:b]] for a, b in ends]
    model = CoherenceModel(
        topics=[[corpus.words[i] for i in t] for t in topics.tolist()],
        texts=texts,
        dictionary=Dictionary([corpus.words]),
        coherence="c_npmi",
        window_size=window,
        topn=10,
        processes=1,
    )
    return model.get_coherence_per_topic()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [2, 10, 25])
def test_npmi_agrees_with_gensim(seed: int, window: int) -> None:
    corpus = random_corpus(seed)  # empty, one-word and short documents, and every word many times in a window
    rng = np.random.default_rng(seed)
    topics = np.stack([rng.permutation(12)[:11] for _ in range(5)])
    np.testing.assert_allclose(
        metrics.npmi(topics, corpus, window=window), gensim_npmi(corpus, topics, window), atol=1e-6
    )


@pytest.mark.parametrize("window", [1, 3, 10, 40, None])
@pytest.mark.parametrize("chunk", [60, cooccurrence.CHUNK])
def test_exact_counts_are_the_definition(
    window: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrence, "CHUNK", chunk)  # many chunks give what one gives
    corpus, interest = random_corpus(7), [1, 4, 5, 11]
    found = metrics.Cooccurrence(corpus, interest, window=window, exact=True)
    expected, windows = np.zeros((4, 4)), 0
    for a, b in zip(corpus.starts[:-1], corpus.starts[1:], strict=True):
        document = corpus.tokens[a:b].tolist()
        for s in range(max(len(document) - window + 1, 1) if window else 1):
            held = np.isin(interest, document[s : s + window] if window else document)
            expected += np.outer(held, held)
            windows += 1
    np.testing.assert_array_equal(found.counts.toarray(), expected)
    assert found.windows == windows


def test_gensim_forgets_a_word_that_is_still_inside() -> None:
    corpus = corpus_of([[0, 1, 0, 2, 2]], 3)  # windows of three: 010, 102, 022
    gensim, exact = (metrics.Cooccurrence(corpus, window=3, exact=e).counts.toarray() for e in (False, True))
    assert exact[0, 0] == 3 and gensim[0, 0] == 1


def test_npmi_of_pairs_that_always_sometimes_and_never_meet() -> None:
    rng = np.random.default_rng(0)
    a, c = rng.random(20_000) < 0.3, rng.random(20_000) < 0.3
    counts = np.stack([a, a, c, ~a], 1).astype(int)
    corpus = from_counts(counts, ["a", "b", "c", "d"], min_tokens=0)
    together, independent, apart = metrics.npmi([[0, 1], [0, 2], [0, 3]], corpus)
    assert together == pytest.approx(1, abs=1e-6)
    assert independent == pytest.approx(0, abs=0.01)
    assert apart == pytest.approx(-1, abs=0.1)  # epsilon keeps it from -1 exactly


def test_a_word_that_never_occurs_counts_minus_one() -> None:
    corpus = corpus_of([[0, 1], [0], [1]], 3)
    assert metrics.npmi([[0, 2]], corpus)[0] == -1


def test_a_bag_is_one_window() -> None:
    corpus = from_counts([[3, 0, 1], [0, 20, 1]], ["a", "b", "c"])
    found = metrics.Cooccurrence(corpus, window=10)
    assert found.window is None and found.windows == 2
    assert found.counts.toarray().tolist() == [[1, 0, 1], [0, 1, 1], [1, 1, 2]]


def test_bad_topics_are_refused() -> None:
    corpus = random_corpus(0)
    for bad in ([0, 1], [[0.5, 1.0]], [[0, 1], [2]], [[]]):
        with pytest.raises(ValueError, match="topics must be"):
            metrics.npmi(bad, corpus)
    with pytest.raises(ValueError, match="2 words"):
        metrics.npmi([[3]], corpus)
    with pytest.raises(ValueError, match=r"\[9\] were not counted"):
        metrics.Cooccurrence(corpus, [1, 2]).npmi([[1, 9]])
    with pytest.raises(ValueError, match="window"):
        metrics.Cooccurrence(corpus, window=0)
    with pytest.raises(ValueError, match="below 12"):
        metrics.Cooccurrence(corpus, [12])


def test_diversity() -> None:
    disjoint = np.arange(100).reshape(4, 25)
    assert metrics.diversity(disjoint) == 1
    assert metrics.diversity(np.repeat(disjoint[:1], 4, 0)) == 1 / 4
    assert metrics.diversity(np.arange(200).reshape(4, 50)) == 1  # the first 25 of each


def test_best_half() -> None:
    corpus = random_corpus(1, words=60, longest=50)
    topics = np.random.default_rng(0).permuted(np.tile(np.arange(60), (5, 1)), axis=1)[:, :25]
    scores = metrics.topic_scores(topics, metrics.Cooccurrence(corpus))
    best = np.sort(scores.each_npmi)[::-1][:2]
    assert scores.best_npmi == pytest.approx(best.mean())
    assert scores.npmi == pytest.approx(scores.each_npmi.mean())
    assert scores.quality == pytest.approx(scores.npmi * scores.diversity)
    assert scores.best_quality == pytest.approx(scores.best_npmi * scores.best_diversity)
    same = metrics.topic_scores(np.tile(topics[:1], (4, 1)), metrics.Cooccurrence(corpus))
    assert same.best_npmi == pytest.approx(same.npmi)
    one = metrics.topic_scores(topics[:1], metrics.Cooccurrence(corpus))
    assert (one.best_npmi, one.best_diversity) == (one.npmi, one.diversity)


def test_purity_and_nmi() -> None:
    labels = np.repeat([0, 1, 2], 10)
    assert metrics.purity(np.arange(30), labels) == 1
    assert metrics.purity(np.zeros(30, int), labels) == pytest.approx(1 / 3)
    clusters = np.random.default_rng(0).integers(4, size=30)
    assert metrics.nmi(clusters, labels) == pytest.approx(metrics.nmi(3 - clusters, (labels + 1) % 3))
    assert metrics.nmi(labels, labels) == 1
    with pytest.raises(ValueError, match="clusters and labels"):
        metrics.purity(clusters, labels[:5])


def test_cluster_scores() -> None:
    labels = np.repeat([0, 1, 2], 10)
    theta = np.eye(3)[labels] * 0.7 + 0.1
    assert metrics.cluster_scores(theta, labels, seed=0) == {
        "top_purity": 1, "top_nmi": 1, "km_purity": 1, "km_nmi": 1,
    }  # fmt: skip
    assert metrics.cluster_scores(np.full((30, 3), 1 / 3), labels)["km_nmi"] == 0
    with pytest.raises(ValueError, match="no labels"):
        metrics.cluster_scores(theta, None)

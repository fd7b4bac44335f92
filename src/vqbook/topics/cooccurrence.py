"""In how many windows of the text words stand, alone and in pairs; coherence of topics from that."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from vqbook.topics.corpus import Corpus

EPSILON = 1e-12
TOP = 10
CHUNK = 4_000_000  # (window, word) pairs held at a time


class Cooccurrence:
    r"""In how many windows each word, and each pair of words, stands.

    A window is ten neighbouring tokens, and slides by one; a document of n tokens has
    $\max(1, n - \text{window} + 1)$ of them, so a short (or empty) document is one window. A bag has no
    neighbours: there the whole document is the window.

    By default words are counted as gensim's `c_npmi` counts them, so that numbers compare with published
    ones. gensim updates a set of words while the window slides and strikes a word out as soon as *one* of
    its copies leaves, even when another copy is still inside; `exact=True` counts what the definition says.

    Args:
        corpus: the reference documents.
        words: word numbers of interest, any order and shape; all words of the vocabulary when None.
        window: tokens in a window; None for whole documents.
        exact: count a word as long as any copy of it is in the window.

    Attributes:
        words: (W,) sorted numbers of interest.
        windows: how many windows there are.
        counts: (W, W) SciPy CSR of int64, windows that hold both words; the diagonal holds one word's.
        window: the window used, None for whole documents.

    Chapter 10.
    """

    def __init__(
        self, corpus: Corpus, words: Any = None, *, window: int | None = 10, exact: bool = False
    ) -> None:
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 token, or None for whole documents, got {window}")
        vocabulary = len(corpus.words)
        self.words = np.arange(vocabulary) if words is None else np.unique(np.asarray(words, np.int64))
        if len(self.words) and not 0 <= self.words[0] <= self.words[-1] < vocabulary:
            raise ValueError(f"words must be numbers below {vocabulary:,}, got {self.words[[0, -1]]}")
        self.window = window if corpus.ordered else None
        lengths = corpus.lengths
        size = max(int(lengths.max(initial=1)), 1) if self.window is None else self.window
        per_document = np.maximum(lengths - size + 1, 1)
        self.windows = int(per_document.sum())
        place = np.full(vocabulary, -1, np.int64)
        place[self.words] = np.arange(len(self.words))
        self.counts = self._count(corpus, place, per_document, size, exact)

    def _count(
        self, corpus: Corpus, place: np.ndarray, per_document: np.ndarray, size: int, exact: bool
    ) -> Any:
        from scipy.sparse import csr_matrix

        width = len(self.words)
        total = csr_matrix((width, width), dtype=np.int64)
        offset = np.concatenate([[0], per_document.cumsum()])
        step = max(CHUNK // min(size, 64), 1)
        cuts = np.unique(np.searchsorted(corpus.starts, np.arange(0, len(corpus.tokens) + step, step)))
        cuts[-1] = len(corpus)
        for a, b in pairwise(cuts.tolist()):
            first, end, word = _presence(corpus, place, per_document, offset, size, exact, a, b)
            length = end - first
            starts = np.concatenate([[0], length.cumsum()])
            window = np.arange(starts[-1]) + np.repeat(first - offset[a] - starts[:-1], length)
            held = csr_matrix(
                (np.ones(len(window), np.int32), (np.repeat(word, length), window)),
                shape=(width, offset[b] - offset[a]),
            )
            total = total + (held @ held.T).astype(np.int64)
        return total.tocsr()

    def npmi(self, topics: Any) -> np.ndarray:
        r"""Mean normalised pointwise mutual information of each topic's ten first words.

        $\mathrm{NPMI}(i, j) = \ln\frac{P(i, j) + \epsilon}{P(i) P(j)} \big/ -\ln(P(i, j) + \epsilon)$,
        $\epsilon = 10^{-12}$, P the share of windows; mean over all pairs. A pair with a word that no window
        holds counts -1, as one that never meets.

        Args:
            topics: word numbers, best first, (T, n) with n at least 2; the first ten of each are used.
        Returns:
            (T,) float64 in [-1, 1].
        Raises:
            ValueError: for a word that is not of interest here.
        """
        top = as_topics(topics)[:, :TOP]
        if top.shape[1] < 2:
            raise ValueError(f"a topic needs at least 2 words for a pair, got {top.shape}")
        if not np.isin(top, self.words).all():
            unknown = np.setdiff1d(top, self.words)[:5].tolist()
            raise ValueError(f"words {unknown} were not counted: name them when making the Cooccurrence")
        at = np.searchsorted(self.words, top)
        i, j = np.triu_indices(top.shape[1], 1)
        one = self.counts.diagonal()[at] / max(self.windows, 1)
        pairs = np.asarray(self.counts[at[:, i].ravel(), at[:, j].ravel()]).reshape(len(top), -1)
        both = pairs / max(self.windows, 1) + EPSILON
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.log(both / (one[:, i] * one[:, j])) / -np.log(both)
        return np.where(np.isfinite(score), score, -1.0).mean(1)


def _presence(
    corpus: Corpus,
    place: np.ndarray,
    per_document: np.ndarray,
    offset: np.ndarray,
    size: int,
    exact: bool,
    a: int,
    b: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Disjoint runs of windows [first, end) that hold a word, for documents a to b.

    A token at position q of its document enters at window max(0, q - size + 1) and leaves after window q.
    For gensim, a word is gone after the *earliest* copy that was inside when the last one entered.
    """
    low, high = corpus.starts[a], corpus.starts[b]
    document = np.repeat(np.arange(a, b), np.diff(corpus.starts[a : b + 1]))
    word = place[corpus.tokens[low:high]]
    position = np.arange(low, high) - corpus.starts[document]
    kept = np.flatnonzero(word >= 0)
    document, word, position = document[kept], word[kept], position[kept]
    order = np.lexsort((position, word, document))
    document, word, position = document[order], word[order], position[order]
    group = np.cumsum(np.append(0, (document[1:] != document[:-1]) | (word[1:] != word[:-1]))[: len(word)])
    enter = np.maximum(position - size + 1, 0)
    last = per_document[document] - 1
    stretch = int(position.max(initial=0)) + size + 1
    key = group * stretch
    if exact:
        previous = np.append(-1, position[:-1])[: len(word)]
        same = np.append(False, group[1:] == group[:-1])[: len(word)]
        first, final = np.where(same, np.maximum(enter, previous + 1), enter), position
    else:
        earliest = np.searchsorted(key + position, key + enter)
        new = np.append(True, earliest[1:] != earliest[:-1])[: len(word)]
        first, final = enter, np.where(new, position[earliest], -1)
    end = np.minimum(final, last) + 1
    run = end > first
    base = offset[document]
    return (base + first)[run], (base + end)[run], word[run]


def as_topics(topics: Any) -> np.ndarray:
    """Word numbers of equally long topics, (T, n), or a ValueError that says what arrived."""
    try:
        top = np.asarray(topics)
    except ValueError:
        raise ValueError("topics must be equally long lists of word numbers") from None
    if top.ndim != 2 or not np.issubdtype(top.dtype, np.integer) or not top.size:
        raise ValueError(f"topics must be whole numbers of shape (T, n), got {top.dtype} {top.shape}")
    return top

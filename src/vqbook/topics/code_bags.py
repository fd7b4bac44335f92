"""Documents as bags of conceptual words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus
    from vqbook.topics.embeddings import Vectors


class Assignment(NamedTuple):
    """Conceptual words of table rows.

    Attributes:
        codes: (R, k) int32, nearest first.
        weights: how much each counts, (R, k) float32; None when each counts one.
    """

    codes: np.ndarray
    weights: np.ndarray | None


def bag_of_codes(
    rows: np.ndarray, starts: np.ndarray, codes: np.ndarray, num_codes: int, weights: np.ndarray | None = None
) -> csr_matrix:
    r"""Documents as bags of conceptual words: one product of two sparse matrices.

    $C_{dm} = \sum_r n_{dr} A_{rm}$, $n_{dr}$ how often document d uses row r of the table, $A_{rm}$ what code m
    counts for that row.

    Args:
        rows: the table row of each token, (n_tokens,); -1 for tokens without a vector, which are left out.
        starts: (N + 1,), document d is tokens starts[d]:starts[d + 1].
        codes: (R, k).
        num_codes: M.
        weights: (R, k), or None for ones: then each document's total is k times its tokens with a vector.
    Returns:
        (N, M) float32.

    Chapter 11.
    """
    near = codes.shape[1]
    known = rows >= 0
    if not known.all():
        starts, rows = np.concatenate([[0], known.cumsum()])[starts], rows[known]
    data = np.ones(codes.size, np.float32) if weights is None else weights.ravel()
    shape = (len(starts) - 1, len(codes))
    uses = csr_matrix((np.ones(len(rows), np.float32), rows, starts), shape=shape)
    table = csr_matrix((data, codes.ravel(), np.arange(len(codes) + 1) * near), shape=(len(codes), num_codes))
    return uses @ table


def row_counts(corpus: Corpus) -> np.ndarray:
    """How often each row of a corpus' table of vectors is used, (R,) int64."""
    vectors = vectors_of(corpus)
    return np.bincount(vectors.rows[vectors.rows >= 0], minlength=len(vectors.table))


def vectors_of(corpus: Corpus) -> Vectors:
    """The vectors of a corpus; ValueError where it has none."""
    if corpus.vectors is None:
        raise ValueError(
            "the corpus has no word vectors: corpus.with_vectors(word2vec(corpus)) gives it some"
        )
    return corpus.vectors


def used_rows(corpus: Corpus, chunk: int = 16_384) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """What a corpus needs of its table of vectors, which may belong to a larger corpus.

    Returns:
        The table (R, E); for each token the place of its row among the rows used, -1 for none, (n_tokens,); the
        numbers of the rows used, ascending, in parts of at most `chunk`.
    """
    vectors = vectors_of(corpus)
    known = vectors.rows >= 0
    used = np.zeros(len(vectors.table), bool)
    used[vectors.rows[known]] = True
    place = used.cumsum(dtype=np.int32) - 1
    numbers = np.flatnonzero(used)
    parts = [numbers[i : i + chunk] for i in range(0, len(numbers), chunk)]
    return vectors.table, np.where(known, place[vectors.rows], -1), parts

"""Vectors of words and of documents, as means of their tokens' vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus
    from vqbook.topics.embeddings import Vectors

BLOCK = 65_536  # rows of the table read at a time


def word_vectors(corpus: Corpus, vectors: Vectors) -> np.ndarray:
    """Each word's vector: the mean over its tokens, (V, d) float32; zeros for a word without any."""
    return mean_vectors(vectors, corpus.tokens, len(corpus.words))


def document_vectors(corpus: Corpus, vectors: Vectors) -> np.ndarray:
    """Each document's vector: the mean over its tokens, (N, d) float32; zeros for a document without any."""
    return mean_vectors(vectors, corpus.document_of_token, len(corpus))


def mean_vectors(vectors: Vectors, groups: np.ndarray, size: int) -> np.ndarray:
    """The mean vector of each group of tokens; tokens without a vector are left out.

    Only rows in use are read, a block at a time: the table may be a large memory map.

    Args:
        vectors: table (R, d) and rows (n_tokens,), -1 for none.
        groups: the group of each token, (n_tokens,).
        size: number of groups.
    Returns:
        (size, d) float32; zeros for a group without vectors.
    """
    from scipy.sparse import csc_matrix

    valid = vectors.rows >= 0
    used, column = np.unique(vectors.rows[valid], return_inverse=True)
    ones = np.ones(len(column), np.float32)
    member = csc_matrix((ones, (groups[valid], column)), shape=(size, len(used)))
    sums = np.zeros((size, vectors.table.shape[1]), np.float32)
    for a in range(0, len(used), BLOCK):
        sums += member[:, a : a + BLOCK] @ np.asarray(vectors.table[used[a : a + BLOCK]], np.float32)
    many = np.asarray(member.sum(1)).reshape(-1, 1)
    return sums / np.maximum(many, 1)

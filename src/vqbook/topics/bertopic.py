"""BERTopic: clusters of document vectors, described by their words."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from vqbook.data.sets import DataError
from vqbook.topics.model import TopicModel
from vqbook.topics.pooling import document_vectors

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus

WINDOW, LEAST = 4, 0.1  # the library's: tokens read together, similarity below which a topic does not count
DOCUMENTS = 2048  # whose proportions are worked out together


class BERTopic(TopicModel):
    r"""BERTopic (Grootendorst 2022), by the library `bertopic`.

    Document vectors, brought to a few dimensions by UMAP, are clustered by HDBSCAN; similar clusters are merged until
    `num_topics` are left; a cluster's words are ranked by class-based TF-IDF,
    $\mathrm{tf}_{t,v}\,\ln(1 + A / f_v)$.

    A document's vector is the mean over its kept tokens of the corpus' vectors (`corpus.vectors`), or of MiniLM's,
    read in the raw text. beta is c-TF-IDF with rows that sum to 1. theta is the library's approximate distribution:
    windows of four tokens are compared with the topics by their c-TF-IDF, and similarities of at least 0.1 are added
    up; it needs words only, so documents that HDBSCAN left out of all clusters have one, too. Where no window is
    similar to any topic, theta is 1/T everywhere. Bags are read as one window.

    HDBSCAN may find fewer clusters than `num_topics`; then beta and theta have as many topics as were found, and fit
    warns.

    Args:
        num_topics: T, at most.
        min_cluster_size: documents in a cluster, at least.
        neighbours: of a document in UMAP's graph.
        components: dimensions that UMAP leaves.
        seed: of UMAP.

    Attributes:
        clusters: the topic of each training document, -1 for an outlier, (N,) int64.

    Chapter 10.
    """

    name = "BERTopic"
    clusters: np.ndarray

    def __init__(
        self,
        *,
        num_topics: int = 20,
        min_cluster_size: int = 10,
        neighbours: int = 15,
        components: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_topics, self.min_cluster_size = num_topics, min_cluster_size
        self.neighbours, self.components, self.seed = neighbours, components, seed

    def _fit(self, corpus: Corpus, validation: Corpus | None, progress: bool) -> None:
        began = time.perf_counter()
        filled = np.flatnonzero(np.diff(corpus.starts))
        if len(filled) < self.components + 3 or len(filled) < self.min_cluster_size:
            raise ValueError(
                f"BERTopic needs at least {max(self.components + 3, self.min_cluster_size)} documents with words "
                f"(components + 3 and min_cluster_size), got {len(filled)}"
            )
        part = corpus.take(filled)
        documents = [" ".join(map(str, ids)) for ids in np.split(part.tokens, part.starts[1:-1])]
        model = self._library(len(filled))
        with threads_kept(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # UMAP's on its seed and on small sets, NumPy's on words that never occur
            found, _ = model.fit_transform(documents, _vectors(part))
            if max(found) < 0:
                raise ValueError(
                    f"HDBSCAN found no cluster of {self.min_cluster_size} documents among {len(filled)}: lower "
                    "min_cluster_size or give more documents"
                )
            model.reduce_topics(documents, self.num_topics + model._outliers)
            idf = np.nan_to_num(model.ctfidf_model._idf_diag.diagonal(), posinf=0.0)
        self._idf = idf.astype(np.float32)  # (V,)
        self._ctfidf = model.c_tf_idf_[model._outliers :].toarray().astype(np.float32)  # (T, V)
        self.clusters = np.full(len(corpus), -1)
        self.clusters[filled] = model.topics_
        self.history.seconds = time.perf_counter() - began
        if len(self._ctfidf) < self.num_topics:
            warnings.warn(
                f"BERTopic found {len(self._ctfidf)} topics, not {self.num_topics}: lower min_cluster_size for more",
                stacklevel=3,
            )

    def _library(self, size: int) -> Any:
        """The library's model with everything fixed that would vary from run to run."""
        from vqbook import _torchvision

        with contextlib.suppress(ImportError):
            _torchvision.datasets()  # transformers imports torchvision when it is there, whole or not
        try:
            import bertopic
            from hdbscan import HDBSCAN
            from umap import UMAP
        except ImportError as error:
            raise DataError(
                f"BERTopic needs packages of the topics extra ({error.name}): pip install 'vqbook[topics]'."
            ) from None
        from sklearn.feature_extraction.text import CountVectorizer

        logging.getLogger("BERTopic").setLevel(logging.ERROR)
        numbers = {
            str(v): v for v in range(len(self.words))
        }  # words go in as their numbers: spelled as in the corpus
        return bertopic.BERTopic(
            umap_model=UMAP(
                n_neighbors=min(self.neighbours, size - 1),
                n_components=self.components,
                min_dist=0.0,
                metric="cosine",
                random_state=self.seed,
                n_jobs=1,
            ),
            hdbscan_model=HDBSCAN(min_cluster_size=self.min_cluster_size, core_dist_n_jobs=1),
            vectorizer_model=CountVectorizer(vocabulary=numbers, token_pattern=r"\S+", lowercase=False),
        )

    def _infer(self, corpus: Corpus) -> np.ndarray:
        topics = (self._ctfidf / np.linalg.norm(self._ctfidf, axis=1, keepdims=True)).T  # (V, T)
        theta = np.empty((len(corpus), topics.shape[1]), np.float32)
        for a in range(0, len(corpus), DOCUMENTS):
            part = corpus.take(np.arange(a, min(a + DOCUMENTS, len(corpus))))
            windows, document = windows_of(part)
            weighted = windows.multiply(self._idf).tocsr()
            norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)))  # (windows, 1)
            similarity = (weighted @ topics) / np.maximum(norm, 1e-30)  # (windows, T)
            similarity[similarity < LEAST] = 0
            member = csr_matrix((np.ones(len(document)), (document, np.arange(len(document)))))
            member.resize(len(part), len(document))
            theta[a : a + len(part)] = member @ similarity
        total = theta.sum(1, keepdims=True)
        return np.where(total > 0, theta / np.maximum(total, 1e-30), 1 / theta.shape[1])

    def get_beta(self) -> np.ndarray:
        """c-TF-IDF with rows that sum to 1, (T, V) float32."""
        self._check_fitted()
        return self._ctfidf / self._ctfidf.sum(1, keepdims=True)

    def _arrays(self) -> dict[str, Tensor]:
        arrays = {"ctfidf": self._ctfidf, "idf": self._idf, "clusters": self.clusters}
        return {key: torch.from_numpy(value) for key, value in arrays.items()}

    def _restore(self, arrays: dict[str, Tensor]) -> None:
        self._ctfidf, self._idf, self.clusters = (
            arrays[key].numpy() for key in ("ctfidf", "idf", "clusters")
        )


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """PyTorch works with as many threads afterwards as before.

    The first parallel loop of numba, in which UMAP is written, gives its own number to the OpenMP that both share;
    then sums are split otherwise, and what is fitted next in the same process differs in its last bits.
    """
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def windows_of(corpus: Corpus) -> tuple[csr_matrix, np.ndarray]:
    """All runs of four tokens: their counts (windows, V), and each one's document.

    A document of fewer than four tokens is one window, and so is a bag.
    """
    lengths = np.diff(corpus.starts)
    many = np.where(corpus.ordered, np.maximum(lengths - WINDOW + 1, 1), 1)  # windows in each document
    size = np.repeat(np.minimum(lengths, WINDOW) if corpus.ordered else lengths, many)
    document = np.repeat(np.arange(len(corpus)), many)
    first = corpus.starts[:-1][document] + np.arange(len(document)) - np.repeat(many.cumsum() - many, many)
    ends = size.cumsum()
    at = np.arange(size.sum()) + np.repeat(first - (ends - size), size)
    starts = np.concatenate([[0], ends])
    shape = (len(document), len(corpus.words))
    windows = csr_matrix((np.ones(len(at), np.float32), corpus.tokens[at], starts), shape=shape)
    windows.sum_duplicates()
    return windows, document


def _vectors(corpus: Corpus) -> np.ndarray:
    """Unit vectors of the documents, (N, d) float32."""
    from vqbook.topics.contextual import contextual

    if corpus.vectors is None and corpus.texts is None:
        raise ValueError(
            "BERTopic needs vectors: this corpus holds bags without texts, so give it some, as in "
            "corpus.with_vectors(word2vec(corpus))"
        )
    found = document_vectors(corpus, corpus.vectors or contextual(corpus))
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

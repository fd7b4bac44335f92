"""LDA, by gensim's online variational Bayes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.special import psi
from torch import Tensor

from vqbook.topics.model import TopicModel

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus

DOCUMENTS = 1024  # whose proportions are worked out together


class LDA(TopicModel):
    r"""Latent Dirichlet allocation (Blei et al. 2003): $\theta \sim \mathrm{Dir}(\alpha)$, $w \sim \theta\beta$.

    gensim fits the topics (online variational Bayes, Hoffman, Blei and Bach 2010). Proportions of documents are the
    means of their variational Dirichlets, by the same updates from an even start: gensim starts from random numbers,
    which makes a document's proportions depend on the documents before it.

    Args:
        num_topics: T.
        alpha: Dirichlet parameter of the proportions: one for all topics, "symmetric" (1/T), "asymmetric" or "auto".
        eta: Dirichlet parameter of the topics: a number, "symmetric" (1/T) or "auto".
        passes: over the corpus.
        iterations: of a document's updates, at most, while fitting and in `transform`.
        chunk: documents between two updates of the topics.
        seed: of gensim's random start.

    Chapter 10.
    """

    name = "LDA"

    def __init__(
        self,
        *,
        num_topics: int = 20,
        alpha: float | str = "symmetric",
        eta: float | str = "symmetric",
        passes: int = 10,
        iterations: int = 50,
        chunk: int = 2000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_topics, self.alpha, self.eta = num_topics, alpha, eta
        self.passes, self.iterations, self.chunk, self.seed = passes, iterations, chunk, seed

    def _fit(self, corpus: Corpus, validation: Corpus | None, progress: bool) -> None:
        from gensim.matutils import Sparse2Corpus
        from gensim.models import LdaModel

        began = time.perf_counter()
        filled = corpus.counts[np.diff(corpus.starts) > 0]
        model = LdaModel(
            Sparse2Corpus(filled, documents_columns=False),
            num_topics=self.num_topics,
            id2word=dict(enumerate(self.words)),
            alpha=self.alpha,
            eta=None if self.eta == "symmetric" else self.eta,
            passes=self.passes,
            iterations=self.iterations,
            chunksize=self.chunk,
            eval_every=None,
            random_state=self.seed,
        )
        self._topics = model.state.get_lambda().astype(np.float32)  # (T, V), Dirichlet parameters
        self._alpha = np.asarray(model.alpha, np.float32)  # (T,)
        self.history.seconds = time.perf_counter() - began

    def _infer(self, corpus: Corpus) -> np.ndarray:
        pull = np.exp(psi(self._topics) - psi(self._topics.sum(1, keepdims=True))).T.astype(
            np.float32
        )  # (V, T)
        parts = [
            posterior(corpus.counts[a : a + DOCUMENTS], pull, self._alpha, self.iterations)
            for a in range(0, len(corpus), DOCUMENTS)
        ]
        gamma = np.concatenate(parts)
        return gamma / gamma.sum(1, keepdims=True)

    def get_beta(self) -> np.ndarray:
        """Topic-word probabilities, means of the topics' Dirichlets, (T, V) float32."""
        self._check_fitted()
        return self._topics / self._topics.sum(1, keepdims=True)

    def _arrays(self) -> dict[str, Tensor]:
        return {"topics": torch.from_numpy(self._topics), "alpha": torch.from_numpy(self._alpha)}

    def _restore(self, arrays: dict[str, Tensor]) -> None:
        self._topics, self._alpha = arrays["topics"].numpy(), arrays["alpha"].numpy()


def posterior(
    counts: Any, pull: np.ndarray, alpha: np.ndarray, iterations: int, tol: float = 1e-3
) -> np.ndarray:
    r"""Variational Dirichlets of the proportions of documents, topics given; sparse in the words.

    $\gamma_{dt} = \alpha_t + \sum_w n_{dw}\phi_{dwt}$, $\phi_{dwt} \propto e^{\mathbb{E}\ln\theta_{dt}}
    e^{\mathbb{E}\ln\beta_{tw}}$

    Args:
        counts: (N, V) SciPy CSR.
        pull: $e^{\mathbb{E}\ln\beta}$, (V, T).
        alpha: (T,).
        iterations: at most; stops when no document's gamma moves by more than `tol` a topic on average.
    Returns:
        gamma, (N, T).

    Hoffman, Blei and Bach, 2010.
    """
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    pulls = pull[counts.indices]  # (n, T): of each word that occurs
    ones = np.arange(len(row))
    gamma = np.ones((counts.shape[0], len(alpha)), np.float32)
    for _ in range(iterations):
        share = np.exp(psi(gamma) - psi(gamma.sum(1, keepdims=True)))  # (N, T)
        weight = counts.data / (np.einsum("nt,nt->n", share[row], pulls) + 1e-30)
        gather = csr_matrix((weight.astype(np.float32), ones, counts.indptr), shape=(len(gamma), len(row)))
        before, gamma = gamma, alpha + share * (gather @ pulls)
        if np.abs(gamma - before).mean(1).max(initial=0) < tol:
            break
    return gamma

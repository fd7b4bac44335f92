"""Topics to start from: clusters of the documents."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import normalize


def cluster_start(bag: csr_matrix, rho: Tensor, num_topics: int, seed: int) -> Tensor:
    r"""Weights of topics over codes that set apart the clusters of a k-means over documents.

    A document lies at $\mathrm{unit}\bigl(\sum_m \log(1 + n_{dm})\,\mathrm{idf}_m\,\tilde\rho_m\bigr)$; a cluster t
    of documents becomes $\beta_{tm} \propto (p(m \mid t) - p(m)) / \sqrt{p(m)}$, counts plus one, scaled so that all
    entries together have standard deviation one.

    Args:
        bag: counts n of codes in documents, (N, M), at least T rows that are not empty.
        rho: unit codes, (M, D).
        num_topics: T.
        seed: of the k-means.
    Returns:
        β, (T, M).

    Chapter 11.
    """
    from sklearn.cluster import KMeans

    bag = bag[np.diff(bag.indptr) > 0]
    weighted = bag.log1p()
    idf = np.log((1 + bag.shape[0]) / (1 + np.bincount(bag.indices, minlength=bag.shape[1])))
    places = (weighted.multiply(idf).tocsr() @ rho.cpu().numpy()).astype(np.float32)
    clusters = KMeans(num_topics, n_init=1, random_state=seed).fit_predict(
        normalize(torch.from_numpy(places), dim=-1).numpy()
    )
    shape = (num_topics, len(clusters))
    member = csr_matrix((np.ones(len(clusters)), (clusters, np.arange(len(clusters)))), shape=shape)
    counts = (member @ bag).toarray() + 1  # (T, M)
    p, overall = counts / counts.sum(1, keepdims=True), counts.sum(0) / counts.sum()
    beta = torch.from_numpy((p - overall) / np.sqrt(overall)).float()
    return beta / beta.std().clamp_min(1e-12)

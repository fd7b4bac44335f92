"""A codebook that is an average of the vectors it stands for: online k-means instead of a gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from vqbook.quantizers.base import Quantized
from vqbook.quantizers.distributed import all_sum
from vqbook.quantizers.kmeans import cluster_sums
from vqbook.quantizers.nearest import VectorQuantizer
from vqbook.quantizers.ops import Estimator, straight_through


@torch.no_grad()
def ema_update(counts: Tensor, sums: Tensor, z: Tensor, codes: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    r"""Move the running size and the running sum of each cluster towards those of a batch.

    $\tilde n_k \leftarrow \kappa\, \tilde n_k + (1-\kappa)\, n_k, \qquad
    m_k \leftarrow \kappa\, m_k + (1-\kappa) \sum_{n:\,k(n)=k} z_n$,

    where $n_k$ vectors of the batch chose code k.

    On several processes the sums run over the batches of all ranks.

    Args:
        counts: running counts, (K,).
        sums: running sums m, (K, D).
        z: vectors of the batch, (..., D).
        codes: their codes, int64, (...).
        decay: κ, 0 to forget all but this batch.
    Returns:
        The new (counts, sums); the arguments are left as they are.
    Raises:
        ValueError: shapes do not fit.

    van den Oord et al., 2017, appendix; chapter 4.
    """
    if counts.shape != sums.shape[:-1] or z.shape[-1] != sums.shape[-1] or codes.shape != z.shape[:-1]:
        raise ValueError(
            "expected counts (K,), sums (K, D), z (..., D) and codes (...), got "
            f"{tuple(counts.shape)}, {tuple(sums.shape)}, {tuple(z.shape)} and {tuple(codes.shape)}"
        )
    new_counts = all_sum(torch.bincount(codes.reshape(-1), minlength=len(counts)))
    new_sums = all_sum(cluster_sums(z.to(sums.dtype), codes, len(sums)))
    return torch.lerp(counts, new_counts.to(counts.dtype), 1 - decay), torch.lerp(sums, new_sums, 1 - decay)


@torch.no_grad()
def smoothed_codebook(counts: Tensor, sums: Tensor, eps: float = 1e-5) -> Tensor:
    r"""Cluster means, where no cluster is quite empty (Laplace smoothing of the counts).

    $e_k = m_k / \hat n_k, \qquad \hat n_k = \frac{\tilde n_k + \epsilon}{\tilde N + K\epsilon}\, \tilde N,
    \qquad \tilde N = \sum_k \tilde n_k$

    The smoothed counts have the sum of the counts.

    Args:
        counts: running counts, (K,).
        sums: m_k, (K, D).
        eps: ε.
    Returns:
        (K, D).

    Chapter 4.
    """
    total = counts.sum()
    smoothed = (counts + eps) / (total + len(counts) * eps) * total
    return sums / smoothed.unsqueeze(-1)


class EMAVectorQuantizer(VectorQuantizer):
    r"""A vector quantizer whose codes follow the mean of their vectors; no gradient and no optimiser moves them.

    The codebook is a buffer. A training step quantises with the codebook as it is, then updates it (ema_update,
    smoothed_codebook), so that codes and vectors that leave together belong together. Evaluation changes nothing.

    Args:
        num_codes: K.
        dim: D.
        decay: κ, the memory; 0.99 remembers about 100 batches.
        eps: ε of the smoothing.
        estimator: as in VectorQuantizer.
        generator: source of the initial codes, uniform in (-1/K, 1/K). Each starts with a count of one.
    Raises:
        ValueError: decay outside [0, 1), or eps not positive.

    van den Oord et al., 2017, appendix; chapter 4.
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        decay: float = 0.99,
        eps: float = 1e-5,
        estimator: Estimator = straight_through,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num_codes, dim, estimator=estimator, generator=generator)
        if not 0 <= decay < 1 or not eps > 0:
            raise ValueError(f"decay must lie in [0, 1) and eps above 0, got {decay} and {eps}")
        self.decay, self.eps = decay, eps
        start = self._parameters.pop("codebook")
        assert isinstance(start, nn.Parameter)
        self.register_buffer("codebook", start.detach())
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("sums", start.detach().clone())

    def read(self, z: Tensor, codes: Tensor) -> Quantized:
        """Look the codes up; the one term is "commitment" (gradient to z_e only). Then, in training, learn."""
        e = self.lookup(codes)
        out = Quantized(self.estimator(z, e), codes, {"commitment": mse_loss(z, e)}, self.count(codes))
        if self.training:
            self._learn(z, codes)
        return out

    @torch.no_grad()
    def _learn(self, z: Tensor, codes: Tensor) -> None:
        counts, sums = ema_update(self.counts, self.sums, z, codes, self.decay)
        self.counts.copy_(counts)
        self.sums.copy_(sums)
        self.codebook.copy_(smoothed_codebook(counts, sums, self.eps))

    @torch.no_grad()
    def restart(self, which: Tensor, vectors: Tensor) -> None:
        """Put some codes elsewhere, each as the mean of one vector: its count becomes 1, its sum the vector."""
        super().restart(which, vectors)
        self.counts.copy_(torch.where(which, 1, self.counts))
        self.sums.copy_(torch.where(which.unsqueeze(-1), self.codebook, self.sums))

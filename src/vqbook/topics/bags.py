"""Mini-batches of bags: rows of a sparse count matrix, gathered by index arithmetic."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """B documents as their n non-zero counts; with it, everything a model needs without a (B, V) array.

    Attributes:
        row: the document in the batch, (n,) int64, ascending.
        word: (n,) int64.
        value: the counts, (n,) float32.
        offsets: where each document begins, (B,) int64.
        num_words: V.
    """

    row: Tensor
    word: Tensor
    value: Tensor
    offsets: Tensor
    num_words: int

    @property
    def size(self) -> int:
        """B."""
        return len(self.offsets)

    def totals(self) -> Tensor:
        """Words in each document, (B,)."""
        return self.value.new_zeros(self.size).index_add_(0, self.row, self.value)

    def dense(self) -> Tensor:
        """The counts with their zeros, (B, V)."""
        out = self.value.new_zeros(self.size * self.num_words)
        out[self.row * self.num_words + self.word] = self.value
        return out.view(self.size, self.num_words)

    def at(self, values: Tensor) -> Tensor:
        """The entries of a (B, V) array where the counts are, (n,)."""
        return values.reshape(-1).index_select(0, self.row * self.num_words + self.word)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        r"""$-\sum_v x_{dv} \ln \mathrm{softmax}(\ell_d)_v$, a mean over documents, in nats.

        Args:
            logits: (B, V).
        Returns:
            A scalar; no second (B, V) array of log probabilities is made.
        """
        picked = (self.value * self.at(logits)).sum()
        return (self.totals() @ logits.logsumexp(-1) - picked) / self.size


class Bags:
    """A sparse count matrix as three flat tensors.

    Args:
        counts: (N, V) SciPy CSR matrix of counts (or of non-negative weights).
    """

    def __init__(self, counts: Any) -> None:
        counts = counts.tocsr()
        self.num_words = int(counts.shape[1])
        self.starts = torch.from_numpy(counts.indptr).long()  # (N+1,)
        self.words = torch.from_numpy(counts.indices).int()  # (nnz,)
        self.counts = torch.from_numpy(counts.data).float()  # (nnz,)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def to(self, device: torch.device | str) -> Bags:
        """The same bags on a device."""
        moved = object.__new__(Bags)
        moved.num_words = self.num_words
        moved.starts, moved.words, moved.counts = (
            part.to(device) for part in (self.starts, self.words, self.counts)
        )
        return moved

    def filled(self) -> Tensor:
        """The documents that hold at least one word, on the CPU."""
        return self.starts.diff().nonzero().squeeze(1).cpu()

    def batch(self, rows: Tensor) -> Batch:
        """The documents `rows`, (B,) int64, in this order."""
        first = self.starts[rows]
        lengths = self.starts[rows + 1] - first
        offsets = lengths.cumsum(0) - lengths
        row = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        at = torch.arange(len(row), device=rows.device) + (first - offsets)[row]
        return Batch(row, self.words[at].long(), self.counts[at], offsets, self.num_words)

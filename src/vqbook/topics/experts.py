"""A product of experts over a vocabulary, batch-normalised and scored without a documents x vocabulary array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from vqbook.topics.bags import Batch

EPS = 1e-5  # under the root of a variance, as nn.BatchNorm1d has it
ENTRIES = 1 << 20  # logits that exist at a time: 4 MiB


class MixtureNorm(nn.Module):
    r"""What nn.BatchNorm1d without scale and shift makes of $\theta B$, for any B, from two moments of θ.

    $\mathrm{BN}(\theta B)_v = \frac{(\theta - \bar\theta)\,B_{\cdot v}}{\sqrt{B_{\cdot v}^\top C B_{\cdot v}
    + \epsilon}}, \qquad \bar\theta, C$ mean and (biased) covariance of θ over the batch.

    In evaluation the running averages of the moments take their place: T + T² numbers serve any vocabulary, and
    they do not lag behind B.

    Args:
        num_topics: T.
        momentum: weight of the present batch in the running averages.

    Chapter 11.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, num_topics: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.full((num_topics,), 1 / num_topics))
        self.register_buffer("covariance", torch.eye(num_topics) / num_topics)

    def forward(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """theta (B, T) -> centred theta (B, T), covariance (T, T)."""
        if not self.training:
            return theta - self.mean, self.covariance
        mean = theta.mean(0)
        centred = theta - mean
        covariance = centred.T @ centred / len(theta)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.covariance.lerp_(covariance, self.momentum)
        return centred, covariance


def scaled(experts: Tensor, covariance: Tensor) -> Tensor:
    """Experts (T, V) divided by the standard deviation that each word's logit has over documents, (T, V)."""
    variance = (experts * (covariance @ experts)).sum(0)
    return experts * (variance.clamp_min(0) + EPS).rsqrt()


def log_likelihood(batch: Batch, theta: Tensor, experts: Tensor) -> Tensor:
    r"""$\sum_v x_{dv} \log \mathrm{softmax}(\theta_d B)_v$ of each document, nats, (B,).

    Where B x V logits are many, they exist in blocks of words only, and once more for the gradient.

    Args:
        batch: counts x of B documents over V words.
        theta: (B, T), centred or not.
        experts: B, (T, V).
    """
    return _LogLikelihood.apply(batch, theta, experts)


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, batch: Batch, theta: Tensor, experts: Tensor) -> Tensor:
        rows = experts.T.contiguous()
        picked = embedding_bag(
            batch.word, rows, batch.offsets, mode="sum", per_sample_weights=batch.value
        )  # (B, T): sum_v x_dv B_v
        totals = []
        for logits, _ in _blocks(theta, experts):
            top = logits.amax(-1, keepdim=True)
            totals.append(logits.sub_(top).exp_().sum(-1).log_() + top.squeeze(-1))
        log_total, size = torch.stack(totals).logsumexp(0), batch.totals()
        ctx.save_for_backward(theta, experts, picked, log_total, size)
        ctx.batch = batch
        return (picked * theta).sum(-1) - size * log_total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        theta, experts, picked, log_total, size = ctx.saved_tensors
        batch = ctx.batch
        at = torch.stack([batch.word, batch.row])
        counts = torch.sparse_coo_tensor(
            at, batch.value, (batch.num_words, batch.size), check_invariants=False
        )
        d_theta = grad.unsqueeze(-1) * picked
        d_experts = torch.sparse.mm(counts, grad.unsqueeze(-1) * theta).T.contiguous()
        each = (grad * size).unsqueeze(-1)
        for logits, block in _blocks(theta, experts):
            p = logits.sub_(log_total.unsqueeze(-1)).exp_().mul_(each)
            d_theta.addmm_(p, experts[:, block].T, alpha=-1)
            d_experts[:, block].addmm_(theta.T, p, alpha=-1)
        return None, d_theta, d_experts


def _blocks(theta: Tensor, experts: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """θB for one block of words after the other, (B, width), always in the same memory, and which words they are."""
    total = experts.shape[1]
    width = min(total, max(1, ENTRIES // len(theta)))
    scratch = theta.new_empty(len(theta) * width)
    for first in range(0, total, width):
        block = slice(first, min(first + width, total))
        logits = scratch[: len(theta) * (block.stop - first)].view(len(theta), -1)
        yield torch.mm(theta, experts[:, block], out=logits), block

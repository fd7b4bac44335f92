r"""Logistic-normal topic models: theta = softmax(eta), eta Gaussian; the encoder, the prior and their KL."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqbook.topics.bags import Bags, Batch
from vqbook.topics.minibatches import fit_minibatches, validation_loss
from vqbook.topics.model import TopicModel
from vqbook.train import pick_device

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus

__all__ = [
    "Encoder",
    "LogisticNormalModel",
    "Prior",
    "fit_minibatches",
    "kl",
    "laplace_prior",
    "sample",
    "validation_loss",
]

Inputs = Literal["counts", "shares", "logs"]


class Encoder(nn.Module):
    r"""Amortised posterior: a document's bag to mean and log variance of $q(\eta \mid d) = N(\mu, \mathrm{diag}\,s)$.

    The first layer sums the rows of the words that occur: its cost grows with the words in the document, not with V.
    Each head ends in batch normalisation without scale and shift, unless `batch_norm` is off.

    Args:
        num_words: V (or M where the bag counts codes).
        num_topics: T.
        hidden: widths of the hidden layers, at least one.
        activation: between the layers.
        dropout: after the last hidden layer.
        inputs: "counts" as they are, "shares" of the document (rows sum to 1), or "logs": ln(1 + count).
        batch_norm: whether the heads are batch-normalised.

    Srivastava and Sutton, 2017; chapter 10.
    """

    def __init__(
        self,
        num_words: int,
        num_topics: int,
        *,
        hidden: Sequence[int] = (100, 100),
        activation: Callable[[Tensor], Tensor] = F.softplus,
        dropout: float = 0.2,
        inputs: Inputs = "counts",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if inputs not in ("counts", "shares", "logs"):
            raise ValueError(f'inputs must be "counts", "shares" or "logs", got {inputs!r}')
        if not hidden:
            raise ValueError("hidden must name at least one layer's width, got none")
        first = nn.Linear(num_words, hidden[0])
        self.words = nn.Parameter(first.weight.detach().T.contiguous())  # (V, H): row v is word v's
        self.bias = nn.Parameter(first.bias.detach())
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(hidden))
        self.activation, self.inputs = activation, inputs
        self.dropout = nn.Dropout(dropout)
        self.mean, self.log_var = (_head(hidden[-1], num_topics, batch_norm) for _ in range(2))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Batch of B documents -> mean (B, T), log variance (B, T)."""
        weight = batch.value
        if self.inputs == "shares":
            weight = weight / batch.totals()[batch.row]
        elif self.inputs == "logs":
            weight = weight.log1p()
        h = F.embedding_bag(batch.word, self.words, batch.offsets, mode="sum", per_sample_weights=weight)
        h = self.activation(h + self.bias)  # (B, H)
        for layer in self.layers:
            h = self.activation(layer(h))
        h = self.dropout(h)
        return self.mean(h), self.log_var(h)


def _head(width: int, num_topics: int, batch_norm: bool) -> nn.Module:
    line = nn.Linear(width, num_topics)
    return nn.Sequential(line, nn.BatchNorm1d(num_topics, affine=False)) if batch_norm else line


class Prior(NamedTuple):
    """A Gaussian over eta: mean (T,) and variance (T,)."""

    mean: Tensor
    variance: Tensor


def laplace_prior(alpha: float | Tensor, num_topics: int) -> Prior:
    r"""The Gaussian that approximates a Dirichlet in the softmax basis.

    $m_k = \ln\alpha_k - \frac1T\sum_i\ln\alpha_i$,
    $v_k = \frac1{\alpha_k}\left(1-\frac2T\right) + \frac1{T^2}\sum_i\frac1{\alpha_i}$

    With every alpha at 1: m = 0 and v = 1 - 1/T.

    Args:
        alpha: the Dirichlet's parameter, one for all or (T,), positive.
        num_topics: T, at least 2.
    Returns:
        Prior(mean, variance).
    Raises:
        ValueError: alpha that is not positive or of another shape, or fewer than two topics.

    MacKay, 1998; Srivastava and Sutton, 2017; chapter 10.
    """
    if num_topics < 2:
        raise ValueError(f"num_topics must be at least 2, got {num_topics}: one topic leaves nothing to vary")
    a = torch.as_tensor(alpha, dtype=torch.float32)
    if a.shape not in ((), (num_topics,)) or not bool((a > 0).all()):
        raise ValueError(f"alpha must be positive, one number or {num_topics} of them, got {alpha!r}")
    a = a.expand(num_topics)
    mean = a.log() - a.log().mean()
    variance = (1 - 2 / num_topics) / a + (1 / a).sum() / num_topics**2
    return Prior(mean, variance)


def kl(mean: Tensor, log_var: Tensor, prior_mean: Tensor, prior_var: Tensor) -> Tensor:
    r"""Divergence of two Gaussians with diagonal covariance, in nats.

    $\mathrm{KL} = \frac12\sum_k\left[\frac{s_k}{v_k} + \frac{(m_k-\mu_k)^2}{v_k} - 1 + \ln v_k - \ln s_k\right]$

    Args:
        mean: mu, (B, T).
        log_var: ln s, (B, T).
        prior_mean: m, (T,).
        prior_var: v, (T,).
    Returns:
        (B,).

    Chapter 10.
    """
    gap = (log_var.exp() + (prior_mean - mean).square()) / prior_var
    return 0.5 * (gap - 1 + prior_var.log() - log_var).sum(-1)


def sample(mean: Tensor, log_var: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One reparameterised draw of eta: mean + exp(log_var / 2) * noise, (B, T)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + (0.5 * log_var).exp() * noise


class LogisticNormalModel(TopicModel):
    """A topic model made of one network with an `encoder` and a method `loss(batch) -> terms`.

    A subclass stores `epochs`, `batch_size`, `lr`, `patience` and gives `_build`.
    """

    min_topics = 2
    epochs: int
    batch_size: int
    lr: float
    patience: int
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    @abstractmethod
    def _build(self, corpus: Corpus | None) -> nn.Module:
        """The untrained network for `words`; without a corpus, one of the same shapes to be filled from a file."""

    def _fit(self, corpus: Corpus, validation: Corpus | None, progress: bool) -> None:
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.net = self._build(corpus).to(pick_device())
        curves = fit_minibatches(
            self.net,
            self.net.loss,  # type: ignore[arg-type]
            [Bags(corpus.counts)],
            None if validation is None else [Bags(validation.counts)],
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            patience=self.patience,
            seed=self.seed,
            progress=progress,
        )
        self.history.step = list(range(1, len(curves["total"]) + 1))
        self.history.terms, self.history.seconds = curves, time.perf_counter() - began

    @torch.no_grad()
    def _infer(self, corpus: Corpus) -> np.ndarray:
        self.net.eval()
        device = next(self.net.parameters()).device
        bags, parts = Bags(corpus.counts).to(device), torch.arange(len(corpus)).split(1024)
        means = [self.net.encoder(bags.batch(rows.to(device)))[0] for rows in parts]  # type: ignore[operator]
        return torch.cat(means).softmax(-1).cpu().numpy()

    def _arrays(self) -> dict[str, Tensor]:
        return dict(self.net.state_dict())

    def _restore(self, arrays: dict[str, Tensor]) -> None:
        self.net = self._build(None).eval()
        self.net.load_state_dict(arrays)

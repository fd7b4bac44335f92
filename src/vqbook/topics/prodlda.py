"""ProdLDA: a product of experts over words, trained as a variational autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from vqbook.topics.bags import Batch
from vqbook.topics.logistic_normal import Encoder, Inputs, LogisticNormalModel, kl, laplace_prior, sample

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus


class ProdLDANet(nn.Module):
    r"""$\eta \sim N(m, v)$, $\theta = \mathrm{softmax}(\eta)$, $w \sim \mathrm{softmax}(\mathrm{BN}(\theta B))$.

    The topics are mixed in logit space: every word's probability is a product of the topics' opinions. BN has
    neither scale nor shift.

    Args:
        num_words: V.
        num_topics: T.
        hidden: widths of the encoder's layers.
        dropout: in the encoder and on theta.
        alpha: parameter of the Dirichlet that the prior approximates.
        inputs: how the encoder sees counts.
    """

    prior_mean: Tensor
    prior_var: Tensor

    def __init__(
        self,
        num_words: int,
        num_topics: int,
        hidden: tuple[int, ...],
        dropout: float,
        alpha: float,
        inputs: Inputs = "logs",
    ) -> None:
        super().__init__()
        self.encoder = Encoder(num_words, num_topics, hidden=hidden, dropout=dropout, inputs=inputs)
        self.topics = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_topics, num_words)))  # B
        self.norm = nn.BatchNorm1d(num_words, affine=False)
        self.dropout = nn.Dropout(dropout)
        prior = laplace_prior(alpha, num_topics)
        self.register_buffer("prior_mean", prior.mean)
        self.register_buffer("prior_var", prior.variance)

    def logits(self, theta: Tensor) -> Tensor:
        """theta (B, T) -> word logits (B, V)."""
        return self.norm(theta @ self.topics)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Minus the evidence bound, in two terms, nats a document."""
        mean, log_var = self.encoder(batch)
        theta = self.dropout(sample(mean, log_var).softmax(-1))  # (B, T)
        return {
            "words": batch.cross_entropy(self.logits(theta)),
            "kl": kl(mean, log_var, self.prior_mean, self.prior_var).mean(),
        }


class ProdLDA(LogisticNormalModel):
    """ProdLDA of Srivastava and Sutton (2017), "Autoencoding variational inference for topic models".

    Args:
        num_topics: T, at least 2.
        hidden: widths of the encoder's layers.
        dropout: in the encoder and on theta.
        alpha: parameter of the Dirichlet that the prior approximates.
        inputs: how the encoder sees counts: "counts" (the paper's), "shares" or "logs" (found better topics than counts
            did on 20 Newsgroups, where the lengths of posts differ much).
        epochs: passes over the corpus, at most.
        batch_size: documents in a batch.
        lr: AdamW's step size (with the paper's first moment, 0.99).
        patience: epochs without a better validation bound before stopping.
        seed: of weights, order, noise and dropout.

    Chapter 10.
    """

    name = "ProdLDA"
    betas = (0.99, 0.999)

    def __init__(
        self,
        *,
        num_topics: int = 20,
        hidden: tuple[int, ...] = (100, 100),
        dropout: float = 0.2,
        alpha: float = 1.0,
        inputs: Inputs = "logs",
        epochs: int = 100,
        batch_size: int = 200,
        lr: float = 2e-3,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_topics, self.hidden, self.dropout, self.alpha = num_topics, hidden, dropout, alpha
        self.inputs: Inputs = inputs
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.patience, self.seed = patience, seed

    def _build(self, corpus: Corpus | None) -> ProdLDANet:
        return ProdLDANet(
            len(self.words), self.num_topics, self.hidden, self.dropout, self.alpha, self.inputs
        )

    @torch.no_grad()
    def get_beta(self) -> np.ndarray:
        """The words of a document about topic t alone: softmax(BN(B_t)), (T, V)."""
        self._check_fitted()
        net: ProdLDANet = self.net.eval()  # type: ignore[assignment]
        one_hot = torch.eye(self.num_topics, device=net.topics.device)
        return net.logits(one_hot).softmax(-1).cpu().numpy()

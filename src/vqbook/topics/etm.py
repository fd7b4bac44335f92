"""ETM: topics are points among the word vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqbook.topics.bags import Batch
from vqbook.topics.logistic_normal import Encoder, LogisticNormalModel, kl, sample
from vqbook.topics.pooling import word_vectors

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus

EPS = 1e-6  # added to a word's probability before the logarithm


class ETMNet(nn.Module):
    r"""$\eta \sim N(0, I)$, $\theta = \mathrm{softmax}(\eta)$, $w \sim \theta\beta$,
    $\beta_t = \mathrm{softmax}(\rho\, a_t)$.

    The topics are mixed as probabilities: a word is drawn from one topic, as in LDA.

    Args:
        rho: word vectors, (V, L).
        num_topics: T.
        hidden: widths of the encoder's layers.
        dropout: in the encoder.
        learned: whether the word vectors are trained on or stay as they are.
    """

    def __init__(
        self, rho: Tensor, num_topics: int, hidden: tuple[int, ...], dropout: float, learned: bool
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            len(rho),
            num_topics,
            hidden=hidden,
            activation=F.relu,
            dropout=dropout,
            inputs="shares",
            batch_norm=False,
        )
        self.rho = nn.Parameter(rho.clone(), requires_grad=learned)
        self.topics = nn.Parameter(torch.randn(num_topics, rho.shape[1]) / rho.shape[1] ** 0.5)  # a, (T, L)

    def beta(self) -> Tensor:
        """Topic-word probabilities, (T, V)."""
        return (self.topics @ self.rho.T).softmax(-1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Minus the evidence bound, in two terms, nats a document; only words that occur are computed."""
        mean, log_var = self.encoder(batch)
        theta = sample(mean, log_var).softmax(-1)  # (B, T)
        mixed = (theta[batch.row] * self.beta().T[batch.word]).sum(-1)  # (n,) probability of each word seen
        zero, one = mean.new_zeros(()), mean.new_ones(())
        return {
            "words": -(batch.value * (mixed + EPS).log()).sum() / batch.size,
            "kl": kl(mean, log_var, zero, one).mean(),
        }


class ETM(LogisticNormalModel):
    """The embedded topic model of Dieng, Ruiz and Blei (2020), "Topic modeling in embedding spaces".

    The word vectors are the corpus' own (`corpus.vectors`, averaged over a word's tokens) or, where it has none,
    word2vec's, trained on the documents given to `fit`. A word without a vector starts at zero.

    Args:
        num_topics: T, at least 2.
        embeddings: "learned" trains the word vectors on, "frozen" keeps them.
        hidden: widths of the encoder's layers.
        dropout: in the encoder.
        epochs: passes over the corpus, at most.
        batch_size: documents in a batch.
        lr: AdamW's step size.
        weight_decay: AdamW's.
        patience: epochs without a better validation bound before stopping.
        seed: of weights, order, noise and dropout.
    Raises:
        ValueError: `embeddings` of another kind.

    Chapter 10.
    """

    name = "ETM"

    def __init__(
        self,
        *,
        num_topics: int = 20,
        embeddings: str = "learned",
        hidden: tuple[int, ...] = (800, 800),
        dropout: float = 0.5,
        epochs: int = 100,
        batch_size: int = 200,
        lr: float = 5e-3,
        weight_decay: float = 1.2e-6,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if embeddings not in ("learned", "frozen"):
            raise ValueError(f'embeddings must be "learned" or "frozen", got {embeddings!r}')
        self.num_topics, self.embeddings, self.hidden, self.dropout = num_topics, embeddings, hidden, dropout
        self.epochs, self.batch_size, self.lr, self.weight_decay = epochs, batch_size, lr, weight_decay
        self.patience, self.seed = patience, seed

    def _build(self, corpus: Corpus | None) -> ETMNet:
        from vqbook.topics.embeddings import word2vec

        if corpus is None:
            rho = torch.zeros(len(self.words), self._dim)
        else:
            rho = torch.from_numpy(word_vectors(corpus, corpus.vectors or word2vec(corpus, seed=self.seed)))
        return ETMNet(rho, self.num_topics, self.hidden, self.dropout, self.embeddings == "learned")

    def _restore(self, arrays: dict[str, Tensor]) -> None:
        self._dim = arrays["rho"].shape[1]
        super()._restore(arrays)

    @torch.no_grad()
    def get_beta(self) -> np.ndarray:
        """Topic-word probabilities, (T, V) float32."""
        self._check_fitted()
        return self.net.beta().cpu().numpy()  # type: ignore[operator]

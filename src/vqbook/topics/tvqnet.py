"""The network of Topic-VQ-VAE: an encoder, a prior and two product-of-experts heads."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vqbook.topics.bags import Batch
from vqbook.topics.experts import EPS, MixtureNorm, log_likelihood, scaled
from vqbook.topics.logistic_normal import Encoder, Inputs, kl, laplace_prior, sample

Alpha = Literal["linear", "mlp"]
Loss = Literal["joint", "codes", "words"]


def over_topics(logits: Tensor) -> Tensor:
    r"""Each word's logits (T, V) as z-scores over the topics: mean 0, variance 1, none above $\sqrt{T-1}$."""
    centred = logits - logits.mean(0)
    return centred * (centred.square().mean(0) + EPS).rsqrt()


class TVQNet(nn.Module):
    r"""$q(\eta \mid c)$, $p(\eta)$, $p(c \mid \theta) = \mathrm{softmax}(\mathrm{BN}(\theta\beta))$ and
    $p(w \mid \theta) = \mathrm{softmax}(\mathrm{BN}(\theta\Lambda))$, $\Lambda_t = \alpha(t_t)$,
    $t_t = \beta_t\tilde\rho / \lVert\beta_t\tilde\rho\rVert$, $\tilde\rho_m = \rho_m / \lVert\rho_m\rVert$.

    The prior's mean and variance are learned from where a Dirichlet with all parameters 1 has them.

    Args:
        codebook: ρ, (M, D); frozen.
        num_words: V.
        num_topics: T.
        alpha: "linear", or "mlp": two tanh layers of 100 and z-scores over the topics.
        loss, inputs, hidden, dropout: as in TopicVQVAE.
    Raises:
        ValueError: an unknown alpha or loss.

    Yoo and Choi, 2024; chapter 11.
    """

    rho: Tensor

    def __init__(
        self,
        codebook: Tensor,
        num_words: int,
        num_topics: int,
        *,
        alpha: Alpha = "mlp",
        loss: Loss = "joint",
        inputs: Inputs = "logs",
        hidden: tuple[int, ...] = (100, 100),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if alpha not in ("linear", "mlp") or loss not in ("joint", "codes", "words"):
            raise ValueError(
                f'alpha is "linear" or "mlp", loss "joint", "codes" or "words", got {alpha!r}, {loss!r}'
            )
        num_codes, dim = codebook.shape
        self.kind, self.alpha = loss, alpha
        self.encoder = Encoder(
            num_codes, num_topics, hidden=hidden, activation=torch.tanh, dropout=dropout, inputs=inputs
        )
        prior = laplace_prior(1.0, num_topics)
        self.prior_mean = nn.Parameter(prior.mean.clone())
        self.prior_log_var = nn.Parameter(prior.variance.log())
        self.beta = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_topics, num_codes)))
        self.register_buffer("rho", normalize(codebook, dim=-1))
        if alpha == "linear":
            self.read: nn.Module = nn.Linear(dim, num_words, bias=False)
        else:
            self.read = nn.Sequential(
                nn.Linear(dim, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, num_words)
            )
        self.norm = MixtureNorm(num_topics)

    def topic_vectors(self) -> Tensor:
        """t, (T, D), each of length 1."""
        return normalize(self.beta @ self.rho, dim=-1)

    def codes(self) -> Tensor:
        """β, (T, M)."""
        return self.beta

    def raw_words(self) -> Tensor:
        """α(t) before any z-score, (T, V)."""
        vectors = self.topic_vectors()
        return self.read(vectors.detach() if self.kind == "codes" else vectors)

    def words(self) -> Tensor:
        """Λ, (T, V)."""
        return self.raw_words() if self.alpha == "linear" else over_topics(self.raw_words())

    def logits(self, theta: Tensor, experts: Tensor) -> Tensor:
        """BN(θ experts), (B, T), (T, V) -> (B, V)."""
        centred, covariance = self.norm(theta)
        return centred @ scaled(experts, covariance)

    def log_likelihoods(self, theta: Tensor, codes: Batch, words: Batch) -> tuple[Tensor, Tensor]:
        """log p(c | θ) and log p(w | θ) of each document, nats, (B,) each."""
        centred, covariance = self.norm(theta)
        reading = (
            [x.detach() for x in (centred, covariance)] if self.kind == "codes" else (centred, covariance)
        )
        return (
            log_likelihood(codes, centred, scaled(self.beta, covariance)),
            log_likelihood(words, reading[0], scaled(self.words(), reading[1])),
        )

    def loss(self, codes: Batch, words: Batch) -> dict[str, Tensor]:
        """Minus the evidence bound by its terms, means over documents, in nats; those that `loss` asks for."""
        mean, log_var = self.encoder(codes)
        log_c, log_w = self.log_likelihoods(sample(mean, log_var).softmax(-1), codes, words)
        terms = {"codes": -log_c.mean(), "words": -log_w.mean()}
        if self.kind == "words":
            del terms["codes"]
        return {**terms, "kl": self.kl(mean, log_var).mean()}

    def kl(self, mean: Tensor, log_var: Tensor) -> Tensor:
        """KL(q(η | c) || p(η)), (B,)."""
        return kl(mean, log_var, self.prior_mean, self.prior_log_var.exp())

    def bound(
        self, codes: Batch, words: Batch, samples: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Expected log p(c | θ), log p(w | θ), a mean over draws, and the KL, (B,) each."""
        mean, log_var = self.encoder(codes)
        log_c, log_w = torch.zeros(2, codes.size)
        for _ in range(samples):
            c, w = self.log_likelihoods(sample(mean, log_var, generator).softmax(-1), codes, words)
            log_c, log_w = log_c + c / samples, log_w + w / samples
        return log_c, log_w, self.kl(mean, log_var)

    def log_evidence(
        self, codes: Batch, words: Batch, samples: int, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""$\log \frac1S \sum_s p(c, w \mid \eta_s)\,p(\eta_s)/q(\eta_s \mid c)$, η drawn from q, (B,)."""
        mean, log_var = self.encoder(codes)
        weights = []
        for _ in range(samples):
            eta = sample(mean, log_var, generator)
            log_c, log_w = self.log_likelihoods(eta.softmax(-1), codes, words)
            log_p = _log_normal(eta, self.prior_mean, self.prior_log_var)
            weights.append(log_c + log_w + log_p - _log_normal(eta, mean, log_var))
        return torch.stack(weights).logsumexp(0) - math.log(samples)


def _log_normal(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    square = (x - mean).square() * (-log_var).exp()
    return -0.5 * (square + log_var + math.log(2 * math.pi)).sum(-1)

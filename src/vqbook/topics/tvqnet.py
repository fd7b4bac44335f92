"""The network of Topic-VQ-VAE: an encoder, a prior and two product-of-experts heads."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import normalize

from vqbook.topics.bags import Batch
from vqbook.topics.experts import EPS, MixtureNorm, log_likelihood, scaled
from vqbook.topics.logistic_normal import Encoder, Inputs, kl, laplace_prior, sample

Alpha = Literal["vectors", "linear", "mlp"]
Loss = Literal["joint", "codes", "words"]


def over_topics(logits: Tensor) -> Tensor:
    r"""Each word's logits (T, V) as z-scores over the topics: mean 0, variance 1, none above $\sqrt{T-1}$."""
    centred = logits - logits.mean(0)
    return centred * (centred.square().mean(0) + EPS).rsqrt()


class TVQNet(nn.Module):
    r"""The model of a document's codes c and words w, and its approximate posterior $q(\eta \mid c)$.

    $p(c \mid \theta) = \mathrm{softmax}\bigl(g_c\,\mathrm{BN}(\theta\beta) + b_c\bigr), \qquad
    p(w \mid \theta) = \mathrm{softmax}\bigl(g_w\,\mathrm{BN}(\theta\Lambda) + b_w\bigr), \qquad
    \Lambda_t = \alpha(t_t)$

    with $t_t = \beta_t\tilde\rho / \lVert\beta_t\tilde\rho\rVert$ and $\tilde\rho_m = \rho_m /
    \lVert\rho_m\rVert$. b are log frequencies in the training documents and g learned numbers; without a
    background b = 0 and g = 1. The prior's mean and variance are learned from where a Dirichlet with all parameters 1
    has them.

    Args:
        codebook: ρ, (M, D); frozen.
        word_vectors: unit vectors of the words in code space, (V, D); frozen, read by alpha "vectors" alone.
        num_topics: T.
        frequencies: counts of the codes (M,) and of the words (V,) for the background, or None.
        alpha: "vectors": $\Lambda_{tv} = t_t \cdot e_v$; "linear"; "mlp": two tanh layers of 100, then z-scores over
            topics.
        loss, inputs, hidden, dropout: as in TopicVQVAE.
    Raises:
        ValueError: an unknown alpha or loss.

    Yoo and Choi, 2024; chapter 11.
    """

    rho: Tensor
    reader: Tensor
    code_background: Tensor
    word_background: Tensor

    def __init__(
        self,
        codebook: Tensor,
        word_vectors: Tensor,
        num_topics: int,
        *,
        frequencies: tuple[Tensor, Tensor] | None = None,
        alpha: Alpha = "vectors",
        loss: Loss = "words",
        inputs: Inputs = "logs",
        hidden: tuple[int, ...] = (100, 100),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if alpha not in ("vectors", "linear", "mlp") or loss not in ("joint", "codes", "words"):
            raise ValueError(
                'alpha is "vectors", "linear" or "mlp", loss "joint", "codes" or "words", '
                f"got {alpha!r}, {loss!r}"
            )
        (num_codes, dim), num_words = codebook.shape, len(word_vectors)
        self.kind, self.alpha = loss, alpha
        self.encoder = Encoder(
            num_codes, num_topics, hidden=hidden, activation=torch.tanh, dropout=dropout, inputs=inputs
        )
        prior = laplace_prior(1.0, num_topics)
        self.prior_mean = nn.Parameter(prior.mean.clone())
        self.prior_log_var = nn.Parameter(prior.variance.log())
        self.beta = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_topics, num_codes)))
        self.register_buffer("rho", normalize(codebook, dim=-1))
        if alpha == "vectors":
            self.register_buffer("reader", word_vectors)
        elif alpha == "linear":
            self.read: nn.Module = nn.Linear(dim, num_words, bias=False)
        else:
            self.read = nn.Sequential(
                nn.Linear(dim, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, num_words)
            )
        self.norm = MixtureNorm(num_topics)
        self.background = frequencies is not None
        if frequencies is not None:
            self.gains = nn.Parameter(torch.ones(2))  # of codes and of words
            for name, counts in zip(("code", "word"), frequencies, strict=True):
                self.register_buffer(f"{name}_background", (counts.float() + 1).log())

    def topic_vectors(self) -> Tensor:
        """t, (T, D), each of length 1."""
        return normalize(self.beta @ self.rho, dim=-1)

    def codes(self) -> Tensor:
        """β, (T, M)."""
        return self.beta

    def raw_words(self) -> Tensor:
        """α(t) before any z-score, (T, V)."""
        vectors = self.topic_vectors()
        vectors = vectors.detach() if self.kind == "codes" else vectors
        return vectors @ self.reader.T if self.alpha == "vectors" else self.read(vectors)

    def words(self) -> Tensor:
        """Λ, (T, V)."""
        return over_topics(self.raw_words()) if self.alpha == "mlp" else self.raw_words()

    def code_experts(self, covariance: Tensor) -> Tensor:
        """What gives the codes' logits as a product with `centred` θ, (T, M), or (T + 1, M) with a background."""
        experts = scaled(self.beta, covariance)
        return _on(experts * self.gains[0], self.code_background) if self.background else experts

    def word_experts(self, covariance: Tensor) -> Tensor:
        """The same for words, (T, V) or (T + 1, V)."""
        experts = scaled(self.words(), covariance)
        return _on(experts * self.gains[1], self.word_background) if self.background else experts

    def centred(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """θ (B, T) -> what multiplies the experts, (B, T) or (B, T + 1); covariance of θ, (T, T)."""
        centred, covariance = self.norm(theta)
        return (F.pad(centred, (0, 1), value=1.0) if self.background else centred), covariance

    def code_logits(self, theta: Tensor) -> Tensor:
        """(B, T) -> (B, M)."""
        centred, covariance = self.centred(theta)
        return centred @ self.code_experts(covariance)

    def word_logits(self, theta: Tensor) -> Tensor:
        """(B, T) -> (B, V)."""
        centred, covariance = self.centred(theta)
        return centred @ self.word_experts(covariance)

    def log_likelihoods(self, theta: Tensor, codes: Batch, words: Batch) -> tuple[Tensor, Tensor]:
        """log p(c | θ) and log p(w | θ) of each document, nats, (B,) each."""
        centred, covariance = self.centred(theta)
        log_c = log_likelihood(codes, centred, self.code_experts(covariance))
        if self.kind == "codes":
            centred, covariance = centred.detach(), covariance.detach()
        return log_c, log_likelihood(words, centred, self.word_experts(covariance))

    def loss(self, codes: Batch, words: Batch) -> dict[str, Tensor]:
        """Minus the evidence bound by its terms, means over documents, in nats; those that `loss` asks for."""
        mean, log_var = self.encoder(codes)
        theta = sample(mean, log_var).softmax(-1)
        if self.kind == "words":
            centred, covariance = self.centred(theta)
            terms = {"words": -log_likelihood(words, centred, self.word_experts(covariance)).mean()}
        else:
            log_c, log_w = self.log_likelihoods(theta, codes, words)
            terms = {"codes": -log_c.mean(), "words": -log_w.mean()}
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
        r"""$\log \frac1S \sum_s p(c, w \mid \eta_s)\,p(\eta_s) / \bar q(\eta_s)$, (B,).

        Draws come in turn from the posterior and from the prior, and $\bar q = \frac12(q(\eta \mid c) + p(\eta))$: no
        weight is above twice the likelihood, however narrow the posterior is.
        """
        mean, log_var = self.encoder(codes)
        prior = self.prior_mean.expand_as(mean), self.prior_log_var.expand_as(mean)
        weights = []
        for turn in range(samples):
            centre, log_spread = prior if turn % 2 else (mean, log_var)
            eta = sample(centre, log_spread, generator)
            log_p, log_q = _log_normal(eta, *prior), _log_normal(eta, mean, log_var)
            log_c, log_w = self.log_likelihoods(eta.softmax(-1), codes, words)
            weights.append(log_c + log_w + log_p - torch.logaddexp(log_p, log_q) + math.log(2))
        return torch.stack(weights).logsumexp(0) - math.log(samples)


def _on(experts: Tensor, background: Tensor) -> Tensor:
    return torch.cat([experts, background.unsqueeze(0)])


def _log_normal(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    square = (x - mean).square() * (-log_var).exp()
    return -0.5 * (square + log_var + math.log(2 * math.pi)).sum(-1)

"""Topic-VQ-VAE for documents: topics over conceptual words, rendered as words."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from vqbook.topics.bags import Bags
from vqbook.topics.cluster_start import cluster_start
from vqbook.topics.code_bags import bag_of_codes, row_counts
from vqbook.topics.conceptual import ConceptualWords
from vqbook.topics.logistic_normal import Inputs, LogisticNormalModel
from vqbook.topics.minibatches import fit_minibatches
from vqbook.topics.model import in_words_of, standardised
from vqbook.topics.rankings import balanced, distinctive
from vqbook.topics.soft_conceptual import SoftConceptualWords
from vqbook.topics.tvqnet import Alpha, Loss, TVQNet
from vqbook.train import pick_device

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus

WARM_UP = 5  # epochs in which topics that started as clusters stay there
RANKINGS = ("raw", "logits", "zscore", "distinctive", "balanced")
OWN: dict[Alpha, str] = {
    "vectors": "distinctive",
    "linear": "logits",
    "mlp": "zscore",
}  # unless told otherwise
CONCEPTS = {kind.__name__: kind for kind in (ConceptualWords, SoftConceptualWords)}


class Bound(NamedTuple):
    """The evidence lower bound of documents, in nats, by its pieces; each is (N,).

    Attributes:
        codes: expected log likelihood of the conceptual words.
        words: expected log likelihood of the words.
        kl: divergence of the posterior over η from the prior.
    """

    codes: np.ndarray
    words: np.ndarray
    kl: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """codes + words - kl, (N,)."""
        return self.codes + self.words - self.kl


class TopicVQVAE(LogisticNormalModel):
    r"""Topics over the codes of a VQ-VAE on word vectors; each topic is rendered as words.

    $\theta = \mathrm{softmax}(\eta), \qquad c \sim \mathrm{softmax}(\mathrm{BN}(\theta\beta)), \qquad
    w \sim \mathrm{softmax}(\mathrm{BN}(\theta\Lambda)), \quad \Lambda_t = \alpha(\beta_t \tilde\rho / \lVert \beta_t
    \tilde\rho \rVert)$

    The corpus must have vectors (`corpus.with_vectors`); without any, word2vec is trained on it. Where vectors belong
    to words and not to single tokens, the model remembers them: new documents then need none.

    Args:
        num_topics: T, at least 2: with one topic θ is the same for all documents and batch normalisation makes all
            words equally likely.
        concepts: ConceptualWords or SoftConceptualWords, or their settings as `get_params` gives them. One that has
            been fitted is used as it is, another is fitted; None has the default settings and this seed.
        alpha: how a topic becomes word logits. "vectors": by the cosine of the topic and the word in code space.
            "linear": by a learned matrix. "mlp": by tanh layers and then z-scores over topics, so that words exclusive
            to a topic rank first.
        loss: "joint": codes, words and KL. "words": words and KL. "codes": codes and KL shape the topics, and the word
            head learns to read them without a say.
        background: whether both heads add log frequencies to logits with a learned gain: batch normalisation alone
            cannot represent how frequent a word is.
        start: topics begin as "clusters" of documents, in which case the first five epochs leave them in place, or at
            "random" (Xavier).
        inputs: what the encoder sees of a bag: "counts", "shares" or "logs".
        ranking: how `top_words` ranks unless told otherwise, one of RANKINGS; None ranks by "distinctive" words for
            alpha "vectors", and as the authors do for "linear" (logits) and "mlp" (zscore).
        hidden: widths of the encoder's layers.
        dropout: in the encoder.
        epochs, batch_size, lr, patience, seed: of the training, as in ProdLDA.

    VARIANTS holds what the authors' code did at two times: `TopicVQVAE(20, **VARIANTS["release"])`.

    Yoo and Choi, 2024; chapter 11.
    """

    name = "TVQ-VAE"

    def __init__(
        self,
        num_topics: int = 20,
        *,
        concepts: ConceptualWords | dict[str, Any] | None = None,
        alpha: Alpha = "vectors",
        loss: Loss = "words",
        background: bool = True,
        start: Literal["clusters", "random"] = "clusters",
        inputs: Inputs = "logs",
        ranking: str | None = None,
        hidden: tuple[int, ...] = (100, 100),
        dropout: float = 0.0,
        epochs: int = 80,
        batch_size: int = 256,
        lr: float = 1e-3,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if start not in ("clusters", "random"):
            raise ValueError(f'start must be "clusters" or "random", got {start!r}')
        if ranking not in (None, *RANKINGS):
            raise ValueError(f"ranking must be None or one of {', '.join(RANKINGS)}, got {ranking!r}")
        self.background, self.start, self.ranking = background, start, ranking
        self.num_topics, self.concepts, self.alpha, self.loss = num_topics, concepts, alpha, loss
        self.inputs, self.hidden, self.dropout = inputs, hidden, dropout
        self.epochs, self.batch_size, self.lr, self.patience, self.seed = (
            epochs,
            batch_size,
            lr,
            patience,
            seed,
        )
        self.concepts_ = _concepts(concepts, seed)
        self.word_codes = np.empty((0, 0), np.int32)
        self.word_weights: np.ndarray | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name; `concepts` as a dictionary with its class's name."""
        params = super().get_params(deep)
        if isinstance(self.concepts, ConceptualWords):
            params["concepts"] = {"class": type(self.concepts).__name__, **self.concepts.get_params()}
        return params

    def bag(self, corpus: Corpus) -> csr_matrix:
        """Documents as bags of conceptual words, (N, M) float32."""
        if len(self.word_codes) == 0:
            return self.concepts_.bag(corpus)
        known = (self.word_codes[:, 0] >= 0)[corpus.tokens]
        rows = np.where(known, corpus.tokens, -1)
        codes = np.maximum(self.word_codes, 0)
        return bag_of_codes(rows, corpus.starts, codes, self.concepts_.num_codes, self.word_weights)

    @torch.no_grad()
    def get_beta(self) -> np.ndarray:
        """The words of a document about topic t alone, (T, V)."""
        return self._net().word_logits(torch.eye(self.num_topics)).softmax(-1).numpy()

    @torch.no_grad()
    def get_code_beta(self) -> np.ndarray:
        """The conceptual words of a document about topic t alone, (T, M)."""
        return self._net().code_logits(torch.eye(self.num_topics)).softmax(-1).numpy()

    @torch.no_grad()
    def scores(self, ranking: str = "own") -> np.ndarray:
        """How well each word stands for each topic, (T, V), larger is better.

        "logits": α(t). "zscore": α(t) standardised over topics. "distinctive": `rankings.distinctive` of α(t).
        "balanced": the same times the root of beta. "raw": the probabilities beta. "own": what the constructor says.

        Raises:
            ValueError: another ranking.
        """
        if ranking == "own":
            ranking = self.ranking or OWN[self.alpha]
        if ranking == "raw":
            return self.get_beta()
        logits = self._net().raw_words().numpy()
        if ranking == "logits":
            return logits
        if ranking == "distinctive":
            return distinctive(logits)
        if ranking == "balanced":
            return balanced(logits, self.get_beta())
        if ranking != "zscore":
            raise ValueError(f'ranking must be "own" or one of {", ".join(RANKINGS)}, got {ranking!r}')
        return standardised(logits)

    def generate(
        self, topic: int | np.ndarray, n: int = 20, *, generator: torch.Generator | None = None
    ) -> list[str]:
        """Draw the words of a document from a topic or from proportions.

        Args:
            topic: a topic's number, or theta (T,), non-negative with sum 1.
            n: words.
            generator: source of the draws.
        Returns:
            n words; their order means nothing.
        Raises:
            ValueError: no such topic, or no proportions.
        """
        theta = self._proportions(topic)
        with torch.no_grad():
            probabilities = self._net().word_logits(torch.from_numpy(theta[None])).softmax(-1)[0]
        drawn = torch.multinomial(probabilities, n, replacement=True, generator=generator)
        return [self.words[w] for w in drawn.tolist()]

    @torch.no_grad()
    def elbo(self, corpus: Corpus, *, samples: int = 1, generator: torch.Generator | None = None) -> Bound:
        """The bound of each document with frozen batch normalisation, a mean over draws of η.

        Whatever `loss` was trained on, all three pieces are given. Likelihoods are those of the tokens in their order:
        no multinomial coefficient.
        """
        net, codes, words = self._net(), *self._bags(corpus)
        rows = torch.arange(len(corpus))
        return Bound(
            *(x.numpy() for x in net.bound(codes.batch(rows), words.batch(rows), samples, generator))
        )

    @torch.no_grad()
    def log_evidence(
        self, corpus: Corpus, *, samples: int = 1000, generator: torch.Generator | None = None
    ) -> np.ndarray:
        """log p(c, w) of each document by importance sampling from posterior and prior in turn, (N,), nats.

        Its expectation lies at or below the truth and rises to it with the number of samples.
        """
        net, codes, words = self._net(), *self._bags(corpus)
        rows = torch.arange(len(corpus))
        return net.log_evidence(codes.batch(rows), words.batch(rows), samples, generator).numpy()

    def _bags(self, corpus: Corpus) -> tuple[Bags, Bags]:
        known = in_words_of(corpus, self.words)
        return Bags(self.bag(known)), Bags(known.counts)

    def _fit(self, corpus: Corpus, validation: Corpus | None, progress: bool) -> None:
        began = time.perf_counter()
        if corpus.vectors is None:
            from vqbook.topics.embeddings import word2vec

            corpus = corpus.with_vectors(word2vec(corpus, seed=self.seed))
        assert corpus.vectors is not None
        self.concepts_ = _concepts(self.concepts, self.seed)
        if not self.concepts_.fitted:
            self.concepts_.fit(corpus.vectors.table, row_counts(corpus), progress=progress)
        self._remember_words(corpus)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.net = net = self._build(corpus).to(pick_device())
        bag = self.bag(corpus)
        train = [Bags(bag), Bags(corpus.counts)]
        held = None if validation is None else [Bags(self.bag(validation)), Bags(validation.counts)]
        common: dict[str, Any] = {"batch_size": self.batch_size, "lr": self.lr, "progress": progress}
        first = 0
        if self.start == "clusters" and np.count_nonzero(np.diff(bag.indptr)) >= self.num_topics:
            with torch.no_grad():
                net.beta.copy_(cluster_start(bag, net.rho, self.num_topics, self.seed))
            first = min(WARM_UP, self.epochs - 1)
        if first:
            net.beta.requires_grad_(False)
            fit_minibatches(net, net.loss, train, epochs=first, seed=self.seed + 1, **common)
            net.beta.requires_grad_(True)
        curves = fit_minibatches(
            net,
            net.loss,
            train,
            held,
            epochs=self.epochs - first,
            patience=self.patience,
            seed=self.seed,
            **common,
        )
        self.net = net.cpu()  # what comes after training is small
        self.history.step = list(range(first + 1, first + len(curves["total"]) + 1))
        self.history.terms, self.history.seconds = curves, time.perf_counter() - began

    def _remember_words(self, corpus: Corpus) -> None:
        """The conceptual words of each word, where they do not depend on its neighbours."""
        vectors = corpus.vectors
        assert vectors is not None
        row_of = np.full(len(corpus.words), -1, vectors.rows.dtype)
        row_of[corpus.tokens] = vectors.rows
        self.word_codes, self.word_weights = np.empty((0, 0), np.int32), None
        if (row_of[corpus.tokens] == vectors.rows).all() and (row_of >= 0).any():
            found = self.concepts_.assign(np.asarray(vectors.table)[np.maximum(row_of, 0)])
            self.word_codes = np.where(row_of[:, None] >= 0, found.codes, -1)
            self.word_weights = found.weights

    def _build(self, corpus: Corpus | None) -> TVQNet:
        codebook, num_words, frequencies = self.concepts_.codebook, len(self.words), None
        vectors = torch.zeros(num_words, codebook.shape[1])
        if self.background:
            frequencies = torch.zeros(len(codebook)), torch.zeros(num_words)
        if corpus is not None:
            if self.alpha == "vectors":
                vectors = self.concepts_.word_vectors(corpus)
            if self.background:
                words = np.bincount(corpus.tokens, minlength=num_words)
                codes = np.asarray(self.bag(corpus).sum(0)).ravel()
                frequencies = torch.from_numpy(codes), torch.from_numpy(words)
        return TVQNet(
            codebook,
            vectors,
            self.num_topics,
            frequencies=frequencies,
            alpha=self.alpha,
            loss=self.loss,
            inputs=self.inputs,
            hidden=self.hidden,
            dropout=self.dropout,
        )

    @torch.no_grad()
    def _infer(self, corpus: Corpus) -> np.ndarray:
        net, bag = self._net(), self.bag(corpus)
        codes, parts = Bags(bag), torch.arange(len(corpus)).split(1024)
        theta = torch.cat([net.encoder(codes.batch(rows))[0] for rows in parts]).softmax(-1)
        theta[torch.from_numpy(np.diff(bag.indptr) == 0)] = 1 / self.num_topics
        return theta.numpy()

    def _net(self) -> TVQNet:
        self._check_fitted()
        return self.net.eval()  # type: ignore[return-value]

    def _proportions(self, topic: int | np.ndarray) -> np.ndarray:
        self._check_fitted()
        if isinstance(topic, int | np.integer):
            if not 0 <= topic < self.num_topics:
                raise ValueError(f"topics are numbered 0 to {self.num_topics - 1}, got {topic}")
            return np.eye(self.num_topics, dtype=np.float32)[topic]
        theta = np.asarray(topic, np.float32)
        if theta.shape != (self.num_topics,) or (theta < 0).any() or abs(theta.sum() - 1) > 1e-4:
            raise ValueError(f"theta must be ({self.num_topics},), non-negative with sum 1, got {theta}")
        return theta

    def _arrays(self) -> dict[str, Tensor]:
        parts = {"net": self.net.state_dict(), "concepts": self.concepts_.state_dict()}
        arrays = {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
        arrays["word_codes"] = torch.from_numpy(self.word_codes)
        if self.word_weights is not None:
            arrays["word_weights"] = torch.from_numpy(self.word_weights)
        return arrays

    def _restore(self, arrays: dict[str, Tensor]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {
                key.removeprefix(name + "."): x for key, x in arrays.items() if key.startswith(name + ".")
            }

        state = part("concepts")
        self.concepts_ = _concepts(self.concepts, self.seed).build(len(state["centre"])).eval()
        self.concepts_.load_state_dict(state)
        self.word_codes = arrays["word_codes"].numpy()
        self.word_weights = arrays["word_weights"].numpy() if "word_weights" in arrays else None
        self.net = self._build(None).eval()
        self.net.load_state_dict(part("net"))


def _concepts(given: ConceptualWords | dict[str, Any] | None, seed: int) -> ConceptualWords:
    if isinstance(given, ConceptualWords):
        return given if given.fitted else copy.deepcopy(given)
    settings = {"class": "ConceptualWords", "seed": seed, **(given or {})}
    return CONCEPTS[settings.pop("class")](**settings)

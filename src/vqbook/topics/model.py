"""The face of every topic model: fit, transform, get_theta, get_beta, top_words, save, load."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from vqbook.data.sets import DataError
from vqbook.topics.rankings import balanced, distinctive
from vqbook.topics.saving import read_arrays, read_head, write_model
from vqbook.train import History

if TYPE_CHECKING:
    from vqbook.topics.corpus import Corpus

RANKINGS = ("own", "raw", "zscore", "distinctive", "balanced")
LEAST = 1e-8  # probability below which the z-scores do not tell words apart


class TopicModel(ABC):
    """What all topic models share.

    A constructor takes hyper-parameters only and stores each under its own name. A model gives `_fit`, `_infer`,
    `get_beta`, and `_arrays` with `_restore` for files; everything else is here.

    Attributes:
        name: how tables call the model.
        num_topics: T, as asked for.
        words: the V words of the training corpus, after fit.
        rare: words in fewer than five training documents (fewer than one in a hundred, where there are not 400), which
            come last in every ranking, (V,) bool.
        history: curves of the fit, one step an epoch; empty where the model has none.
    """

    name: ClassVar[str]
    min_topics: ClassVar[int] = 1
    num_topics: int
    seed: int

    def __init__(self) -> None:
        self.words: list[str] = []
        self.rare = np.zeros(0, bool)
        self.history = History()
        self._theta: np.ndarray | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name, as scikit-learn calls them."""
        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"

    def fit(self, corpus: Corpus, validation: Corpus | None = None, *, progress: bool = False) -> Self:
        """Learn the topics of a corpus.

        Args:
            corpus: N documents over V words.
            validation: documents to stop early on, for models that train by gradients; its words are matched by
                spelling.
            progress: show a bar if a person is watching.
        Returns:
            The model itself.
        Raises:
            ValueError: fewer topics than the model can have, or fewer documents with words than topics.
        """
        if self.num_topics < self.min_topics:
            raise ValueError(
                f"{self.name} needs at least {self.min_topics} topics, got num_topics={self.num_topics}: with fewer "
                "every document would get the same proportions"
            )
        filled = int(np.count_nonzero(np.diff(corpus.starts)))
        if filled < max(self.num_topics, 2):
            raise ValueError(
                f"{self.num_topics} topics need at least as many documents with words (and two at the least), "
                f"got {filled} among {len(corpus)} documents: ask for fewer topics or give more documents"
            )
        self.words, self.history = list(corpus.words), History()
        documents = np.bincount(corpus.counts.indices, minlength=len(self.words))
        self.rare = documents < min(5, 1 + filled // 100)
        self._fit(corpus, None if validation is None else in_words_of(validation, self.words), progress)
        self._theta = self.transform(corpus)
        return self

    def transform(self, corpus: Corpus) -> np.ndarray:
        """Topic proportions of documents: the mean of the approximate posterior (or what the model has for it).

        Deterministic. Words are matched by spelling; a document without any known word gets 1/T everywhere.

        Args:
            corpus: N documents.
        Returns:
            theta, (N, T) float32, rows sum to 1.
        Raises:
            ValueError: the model was not fitted.
        """
        self._check_fitted()
        known = in_words_of(corpus, self.words)
        empty = np.diff(known.starts) == 0
        theta = np.asarray(self._infer(known), np.float32)
        theta[empty] = 1 / theta.shape[1]
        return theta

    def fit_transform(self, corpus: Corpus, validation: Corpus | None = None) -> np.ndarray:
        """Fit, and give the topic proportions of the same documents, (N, T)."""
        return self.fit(corpus, validation).get_theta()

    def get_theta(self) -> np.ndarray:
        """Topic proportions of the training documents, (N, T) float32."""
        self._check_fitted()
        assert self._theta is not None
        return self._theta

    @abstractmethod
    def get_beta(self) -> np.ndarray:
        """Topic-word probabilities, (T, V) float32, rows sum to 1."""

    def scores(self, ranking: str = "own") -> np.ndarray:
        r"""How well each word stands for each topic.

        "raw": the probabilities beta. "zscore": each word's log probability, standardised over the topics,
        $(\ln\beta_{tv} - \overline{\ln\beta_v}) / s_v$, which favours words exclusive to a topic (at most
        $\sqrt{T-1}$). "distinctive": `rankings.distinctive` of log probabilities, where all that lie below 1/V, an
        even share of the vocabulary, count as 1/V. "balanced": the same times the root of beta,
        `rankings.balanced`. "own": the model's own criterion, beta unless the model says otherwise.

        Args:
            ranking: "own", "raw", "zscore", "distinctive" or "balanced".
        Returns:
            (T, V), larger is better.
        Raises:
            ValueError: another ranking, or one that compares topics when there is only one.
        """
        self._check_fitted()
        if ranking not in RANKINGS:
            raise ValueError(f"ranking must be one of {', '.join(RANKINGS)}, got {ranking!r}")
        beta = self.get_beta()
        if ranking in ("own", "raw"):
            return beta
        if len(beta) < 2:
            raise ValueError(f"the ranking {ranking!r} compares topics: it needs at least two topics, got 1")
        if ranking == "zscore":
            return standardised(np.log(np.maximum(beta, LEAST)))
        logits = np.log(np.maximum(beta, 1 / beta.shape[1]))
        return distinctive(logits) if ranking == "distinctive" else balanced(logits, beta)

    def top_ids(self, n: int = 10, ranking: str = "own") -> np.ndarray:
        """The ids of the n best words of each topic, best first, (T, n) int64; rare words come last.

        Ties stand in the order of the vocabulary.
        """
        scores = self.scores(ranking)
        if not 1 <= n <= scores.shape[1]:
            raise ValueError(f"n must lie between 1 and the {scores.shape[1]} words of the corpus, got {n}")
        order = np.argsort(-scores, axis=1, kind="stable")
        rare_last = np.argsort(self.rare[order], axis=1, kind="stable")
        return np.take_along_axis(order, rare_last, 1)[:, :n]

    def top_words(self, n: int = 10, ranking: str = "own") -> list[list[str]]:
        """The n best words of each topic, best first."""
        return [[self.words[v] for v in row] for row in self.top_ids(n, ranking).tolist()]

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder: model.json and one safetensors file, which model.json names.

        model.json is replaced last and in one step: a crash leaves the old model or the new one.
        """
        self._check_fitted()
        shared = {"theta": torch.from_numpy(self.get_theta()), "rare": torch.from_numpy(self.rare)}
        arrays = {**self._arrays(), **shared}
        params = {"class": type(self).__name__, "params": self.get_params()}
        write_model(folder, {**params, "history": self.history.as_dict(), "words": self.words}, arrays)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model that `save` wrote.

        Raises:
            DataError: no model there, a damaged one, or one of another class.
        """
        head = read_head(folder)
        if head["class"] != cls.__name__:
            raise DataError(f"{folder} holds a {head['class']}, not a {cls.__name__}: use load_model")
        arrays = read_arrays(folder, head)
        params = {key: tuple(v) if isinstance(v, list) else v for key, v in head["params"].items()}
        model = cls(**params)
        model.words, model.history = head["words"], History(**head["history"])
        model._theta, model.rare = arrays.pop("theta").numpy(), arrays.pop("rare").numpy()
        model._restore(arrays)
        return model

    @abstractmethod
    def _fit(self, corpus: Corpus, validation: Corpus | None, progress: bool) -> None:
        """Learn; `validation` is in the words of `corpus`."""

    @abstractmethod
    def _infer(self, corpus: Corpus) -> np.ndarray:
        """theta (N, T) of documents in the words of the model; rows of empty documents do not matter."""

    @abstractmethod
    def _arrays(self) -> dict[str, Tensor]:
        """What a file must hold besides hyper-parameters, words and theta."""

    @abstractmethod
    def _restore(self, arrays: dict[str, Tensor]) -> None:
        """Take back what `_arrays` gave; `words` is there already."""

    def _check_fitted(self) -> None:
        if not self.words:
            raise ValueError(f"this {type(self).__name__} has not been fitted: call fit(corpus) first")


def load_model(folder: str | Path) -> TopicModel:
    """Read any topic model of `vqbook.topics`.

    Raises:
        DataError: no model there, a damaged one, or one of a class that `vqbook.topics` does not have.
    """
    name = read_head(folder)["class"]
    found = getattr(importlib.import_module("vqbook.topics"), name, None)
    if not (inspect.isclass(found) and issubclass(found, TopicModel)):
        raise DataError(f"{folder} holds a model of class {name!r}, which vqbook.topics does not have")
    return found.load(folder)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Z-scores of each column over the T rows (biased variance); a column without spread becomes 0.

    Raises:
        ValueError: one row only.
    """
    if len(scores) < 2:
        raise ValueError("z-scores over topics need at least two topics, got 1")
    centred = scores - scores.mean(0)
    spread = scores.std(0)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)


def in_words_of(corpus: Corpus, words: list[str]) -> Corpus:
    """The same documents in another vocabulary: words are matched by spelling, tokens of other words left out."""
    if corpus.words == words:
        return corpus
    ids = {word: v for v, word in enumerate(words)}
    table = np.array([ids.get(word, -1) for word in corpus.words], np.int32)
    tokens = table[corpus.tokens]
    known = tokens >= 0
    starts = np.concatenate([[0], np.cumsum(known)])[corpus.starts].astype(np.int64)
    vectors = corpus.vectors
    return replace(
        corpus,
        words=list(words),
        tokens=tokens[known],
        starts=starts,
        spans=None if corpus.spans is None else corpus.spans[known],
        vectors=None if vectors is None else vectors._replace(rows=vectors.rows[known]),
    )

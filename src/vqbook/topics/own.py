"""Topics of a reader's own documents: count the words, fit a model, measure what was found."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqbook.data.sets import DataError
from vqbook.data.texts import decode
from vqbook.topics.corpus import Corpus, from_texts
from vqbook.topics.documents import Documents
from vqbook.topics.metrics import Cooccurrence, TopicScores, topic_scores
from vqbook.topics.model import TopicModel

# What --model offers: its class, and the word vectors it reads unless others are asked for (None: it reads none).
MODELS: dict[str, tuple[str, str | None]] = {
    "lda": ("LDA", None),
    "prodlda": ("ProdLDA", None),
    "etm": ("ETM", "word2vec"),
    "bertopic": ("BERTopic", "minilm"),
    "tvq-vae": ("TopicVQVAE", "word2vec"),
}
HELD = 0.1  # of the documents, to stop training on, where there are at least ENOUGH
ENOUGH = 100


@dataclass(frozen=True)
class Settings:
    """What, besides the texts, decides on the topics.

    Args:
        model: a key of `MODELS`.
        topics: how many.
        embedding: "word2vec", "glove50" or "minilm"; None for a model that reads none.
        stop_words: "english", "none" or a file with one word a line.
        lemmatise: count English dictionary forms.
        min_df: fewest documents a word must occur in.
        seed: of everything random.
    """

    model: str
    topics: int
    embedding: str | None
    stop_words: str
    lemmatise: bool
    min_df: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """By name, as JSON holds them."""
        return asdict(self)


def default_min_df(documents: int) -> int:
    """A hundredth of the documents, between 2 and 5; 1 for fewer than ten documents."""
    return 1 if documents < 10 else min(5, max(2, documents // 100))


def model_class(name: str) -> type[TopicModel]:
    """The class behind a name of `MODELS`."""
    return getattr(importlib.import_module("vqbook.topics"), MODELS[name][0])


def stop_list(which: str) -> bool | list[str]:
    """What `from_texts` takes for stop words: True for "english", False for "none", else the words of a file."""
    if which in ("english", "none"):
        return which == "english"
    return decode(Path(which).expanduser().read_bytes())[0].split()


def count_words(documents: Documents, settings: Settings, stop_words: bool | list[str]) -> Corpus:
    """The corpus to fit on: each text once, and only texts that have a word of the vocabulary.

    `kept` numbers the documents among `documents`.

    Raises:
        DataError: too few words or documents are left for the topics asked for.
    """
    first = np.flatnonzero(documents.first_copies() == np.arange(len(documents)))
    corpus = _corpus(
        documents,
        first,
        stop_words=stop_words,
        lemmatise=settings.lemmatise,
        min_df=settings.min_df,
        max_df=0.7 if len(first) >= 10 else 1.0,
    )
    needed = max(settings.topics, 2)
    if len(corpus) < needed:
        raise DataError(
            f"{settings.topics} topics need at least {needed} different documents with words in the vocabulary, and "
            f"there are {len(corpus):,} (of {len(documents):,}): ask for fewer topics or give more documents."
        )
    if len(corpus.words) < 3:
        raise DataError(
            f"only {len(corpus.words)} words stand in {settings.min_df} or more of the documents: give more or longer "
            "documents, or a lower --min-df."
        )
    return corpus


def care(documents: Documents, corpus: Corpus) -> list[str]:
    """Sentences on documents that the topics do not rest on, or hardly."""
    first = documents.first_copies() == np.arange(len(documents))
    empty = sum(not text.strip() for text in documents.texts)
    unknown = int(first.sum()) - len(corpus) - bool(empty)
    short = int((corpus.lengths == 1).sum())
    counts = {
        "empty: {} no topics": (empty, "it has", "they have"),
        "without any word of the vocabulary: {} no topics": (unknown, "it has", "they have"),
        "the same as an earlier one: {} its topics and counted once": (
            int((~first).sum()) - max(empty - 1, 0),
            "it gets",
            "they get",
        ),
        "left with one word: {} topics, but do not lean on them": (short, "it has", "they have"),
    }
    return [
        f"{n:,} {'document is' if n == 1 else 'documents are'} {what.format(one if n == 1 else more)}."
        for what, (n, one, more) in counts.items()
        if n
    ]


def recount(documents: Documents, words: list[str], lemmatise: bool) -> Corpus:
    """Documents in the words of a model; those without any are not among them (`kept` numbers the others)."""
    return _corpus(documents, np.arange(len(documents)), vocabulary=words, lemmatise=lemmatise)


def _corpus(documents: Documents, which: np.ndarray, **options: Any) -> Corpus:
    corpus = from_texts(
        [documents.texts[i] for i in which.tolist()],
        names=[documents.names[i] for i in which.tolist()],
        source=documents.source,
        **options,
    )
    return replace(corpus, kept=which[corpus.kept])


def embed(corpus: Corpus, embedding: str | None, *, seed: int = 0, progress: bool = False) -> Corpus:
    """The corpus with the vectors of that name; a language model's are computed once and kept in the cache.

    Raises:
        DataError: the vectors cannot be had.
    """
    if embedding is None:
        return corpus
    if embedding == "minilm":
        from vqbook.topics.contextual import contextual

        return corpus.with_vectors(contextual(corpus, progress=progress))
    from vqbook.topics.embeddings import glove, word2vec

    return corpus.with_vectors(word2vec(corpus, seed=seed) if embedding == "word2vec" else glove(corpus))


def fit_model(corpus: Corpus, settings: Settings, *, progress: bool) -> TopicModel:
    """Fit; a tenth of the documents is held out to stop on, where there are enough and the model uses it."""
    given: dict[str, Any] = {"num_topics": settings.topics, "seed": settings.seed}
    if settings.model == "tvq-vae":
        given["ranking"] = "balanced"  # distinctive words of a small corpus are too rare to say much
    model = model_class(settings.model)(**given)
    if settings.model in ("lda", "bertopic") or len(corpus) < ENOUGH:
        return model.fit(corpus, progress=progress)
    train, held, _ = corpus.split((1 - HELD, HELD, 0.0), seed=settings.seed)
    return model.fit(train, held, progress=progress)


@dataclass(frozen=True)
class Found:
    """What a fit found, topics largest first.

    Args:
        corpus: the documents fitted on.
        theta: topic proportions, (N, T).
        order: (T,) each topic's place in the model's own arrays.
        top: (T, n) word numbers, best first, n at most 25.
        weights: (T, n) their probabilities in the topic.
        scores: coherence and diversity on these documents.
    """

    corpus: Corpus
    theta: np.ndarray
    order: np.ndarray
    top: np.ndarray
    weights: np.ndarray
    scores: TopicScores

    @property
    def shares(self) -> np.ndarray:
        """(T,) mean proportion of each topic over the documents."""
        return self.theta.mean(0)

    @property
    def largest(self) -> np.ndarray:
        """(N,) the topic that is largest in each document, from 0."""
        return self.theta.argmax(1)

    def words(self, topic: int, n: int) -> list[str]:
        """The n first words of a topic."""
        return [self.corpus.words[v] for v in self.top[topic, :n].tolist()]


def measure(model: TopicModel, corpus: Corpus) -> Found:
    """Topic proportions of all documents, topics by size, their words and scores."""
    theta = model.transform(corpus)
    order = np.argsort(-theta.mean(0), kind="stable")
    top = model.top_ids(min(25, len(corpus.words)))[order]
    weights = np.take_along_axis(model.get_beta()[order], top, axis=1)
    scores = topic_scores(top, Cooccurrence(corpus, np.unique(top)))
    return Found(corpus, theta[:, order], order, top, weights, scores)

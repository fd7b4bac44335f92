"""Topic models: corpora, word and token vectors, models, and the measures of what they find."""

from vqbook.topics.contextual import contextual
from vqbook.topics.corpus import Corpus, from_counts, from_texts, from_textset
from vqbook.topics.embeddings import Vectors, glove, word2vec
from vqbook.topics.metrics import (
    Cooccurrence,
    TopicScores,
    cluster_scores,
    diversity,
    nmi,
    npmi,
    purity,
    topic_scores,
)
from vqbook.topics.sets import LOADS, load_corpus

__all__ = [
    "LOADS",
    "Cooccurrence",
    "Corpus",
    "TopicScores",
    "Vectors",
    "cluster_scores",
    "contextual",
    "diversity",
    "from_counts",
    "from_texts",
    "from_textset",
    "glove",
    "load_corpus",
    "nmi",
    "npmi",
    "purity",
    "topic_scores",
    "word2vec",
]

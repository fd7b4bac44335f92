"""Topic models: corpora, word and token vectors, models, and the measures of what they find."""

from vqbook.topics.bertopic import BERTopic
from vqbook.topics.code_bags import bag_of_codes, row_counts
from vqbook.topics.conceptual import ConceptualWords
from vqbook.topics.contextual import contextual
from vqbook.topics.corpus import Corpus, from_counts, from_texts, from_textset
from vqbook.topics.embeddings import Vectors, glove, word2vec
from vqbook.topics.etm import ETM
from vqbook.topics.lda import LDA
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
from vqbook.topics.model import TopicModel, load_model
from vqbook.topics.prodlda import ProdLDA
from vqbook.topics.sets import LOADS, load_corpus
from vqbook.topics.soft_conceptual import SoftConceptualWords
from vqbook.topics.tvqvae import TopicVQVAE
from vqbook.topics.variants import VARIANTS

__all__ = [
    "ETM",
    "LDA",
    "LOADS",
    "VARIANTS",
    "BERTopic",
    "ConceptualWords",
    "Cooccurrence",
    "Corpus",
    "ProdLDA",
    "SoftConceptualWords",
    "TopicModel",
    "TopicScores",
    "TopicVQVAE",
    "Vectors",
    "bag_of_codes",
    "cluster_scores",
    "contextual",
    "diversity",
    "from_counts",
    "from_texts",
    "from_textset",
    "glove",
    "load_corpus",
    "load_model",
    "nmi",
    "npmi",
    "purity",
    "row_counts",
    "topic_scores",
    "word2vec",
]

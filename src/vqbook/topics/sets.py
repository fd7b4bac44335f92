"""The corpora of Part IV by name, preprocessed once and for all."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import torch

from vqbook.data import load
from vqbook.data.files import read_bytes, read_lines
from vqbook.data.paths import in_data_folder, in_words
from vqbook.data.sets import DataError, TextSet, choose
from vqbook.topics.corpus import Corpus, from_texts, from_textset


def load_corpus(name: str, n: int | None = None, seed: int = 0) -> Corpus:
    """One of the corpora that Part IV measures on, all of its documents (train and test of the data set).

    Args:
        name: one of `LOADS`: "20ng", "nyt", "nyt_texts", "agnews", "ap", "lee", "bars", "m10".
        n: documents drawn without replacement (generated, for bars); all when None.
        seed: of the drawing, or of the generator.
    Returns:
        The corpus; `source` and `note` say which data they are. `split(seed=0)` gives the parts to fit on.
    Raises:
        ValueError: for an unknown name or more documents than there are.
        DataError: if the data cannot be had.
    """
    if name not in LOADS:
        raise ValueError(f"corpus must be one of {', '.join(LOADS)}, got {name!r}")
    if name == "bars":  # generated: as many as wanted
        return from_textset(load("bars", "train", n, seed))
    corpus = LOADS[name]()
    return corpus if n is None else corpus.take(choose(len(corpus), n, seed, "documents"))


def _both(name: str, splits: tuple[str, ...] = ("train", "test")) -> TextSet:
    """The splits of a set, one after the other."""
    from scipy.sparse import vstack

    parts = [load(name, split) for split in splits]
    return replace(
        parts[0],
        split="all",
        texts=[text for part in parts for text in part.texts],
        y=None if parts[0].y is None else torch.cat([part.y for part in parts]),
        counts=None if parts[0].counts is None else vstack([part.counts for part in parts], format="csr"),
        source=" and ".join(dict.fromkeys(part.source for part in parts)),
        note=" ".join(dict.fromkeys(s for part in parts for s in re.split(r"(?<=\.) ", part.note) if s)),
        factors={},
    )


def newsgroups20() -> Corpus:
    """20 Newsgroups: raw posts, counted over the 1,612 lemmas of OCTIS's copy, two or more to a post.

    A word counts as itself when it is one of the lemmas, else as its lemma. TVQ-VAE was published on OCTIS's
    16,309 documents, in which only those lemmas are left; here the posts stay whole, so that a language
    model can read a word among its neighbours.
    """
    posts, path = _both("newsgroups20"), in_data_folder("20newsgroups/octis_vocabulary_1612.txt")
    if path is None:
        rare = math.ceil(0.005 * len(posts))
        note = f"{posts.note} Lemmas in at least {rare} posts: OCTIS's list of 1,612 is not in VQBOOK_DATA."
        return from_textset(replace(posts, note=note), lemmatise=True, min_df=rare, min_tokens=2)
    lemmas = read_lines(path)
    note = f"{posts.note} Counted over the {len(lemmas):,} lemmas of OCTIS's copy."
    return from_textset(replace(posts, note=note), vocabulary=lemmas, lemmatise=True, min_tokens=2)


def nyt() -> Corpus:
    """New York Times, bags of 10,000 words under 12 sections (TopMost's copy)."""
    return from_textset(_both("nyt_bow"))


def nyt_texts() -> Corpus:
    """The licensed New York Times articles as TopClus passes them on, from your own copy.

    `nyt_texts/texts.txt` below VQBOOK_DATA holds one article a line, `nyt_texts/labels.txt` (optional) one
    whole number a line. Lemmas without stop words in at least 0.5 % of the articles are counted.
    """
    path = in_data_folder("nyt_texts/texts.txt")
    if path is None:
        raise DataError(
            "nyt_texts needs your own copy of the licensed articles: put texts.txt (one article a line) and "
            "labels.txt (one whole number a line) into a folder nyt_texts below VQBOOK_DATA."
        )
    texts = read_bytes(path).decode("utf-8", errors="replace").splitlines()
    label_file = in_data_folder("nyt_texts/labels.txt")
    labels = None if label_file is None else [int(x) for x in read_lines(label_file)]
    rare = math.ceil(0.005 * len(texts))
    return from_texts(texts, labels=labels, lemmatise=True, min_df=rare, min_tokens=2, source=in_words(path))


def agnews() -> Corpus:
    """AG News, a part: short preprocessed texts over 5,000 words, four labels."""
    texts = _both("agnews")
    return from_textset(texts, vocabulary=texts.vocab)


def ap() -> Corpus:
    """Associated Press articles over the 10,473 words of Blei's copy, no labels.

    His counts glue together what an apostrophe or a hyphen parts (dont, yearold); such words never occur here.
    """
    texts = load("ap")
    return from_textset(texts, vocabulary=texts.vocab)


def lee() -> Corpus:
    """350 news articles that ship inside gensim; lemmas without stop words, in three articles or more."""
    return from_textset(_both("lee"), lemmatise=True, min_df=3)


def m10() -> Corpus:
    """Titles of papers over 1,696 lemmas, ten unnamed labels."""
    texts = _both("m10", ("train", "val", "test"))
    return from_textset(texts, vocabulary=texts.vocab)


LOADS: dict[str, Callable[[], Corpus]] = {
    "20ng": newsgroups20,
    "nyt": nyt,
    "nyt_texts": nyt_texts,
    "agnews": agnews,
    "ap": ap,
    "lee": lee,
    "m10": m10,
    "bars": lambda: from_textset(load("bars")),
}

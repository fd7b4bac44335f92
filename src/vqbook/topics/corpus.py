"""A corpus: documents as runs of word numbers, with what is known of where each word stood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbook.data.sets import DataError, TextSet
from vqbook.topics.tokens import tokenise
from vqbook.topics.vocabulary import candidates, frequent, in_vocabulary

if TYPE_CHECKING:
    from vqbook.topics.embeddings import Vectors


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents over a vocabulary; memory grows with the number of tokens only.

    Args:
        words: the V words of the vocabulary.
        tokens: (n_tokens,) int32 word numbers, document after document, in the order of the text (for bags
            in the order of the vocabulary).
        starts: (N + 1,) int64: document d is `tokens[starts[d]:starts[d + 1]]`.
        texts: the N raw texts, or None.
        spans: (n_tokens, 2) int32, where each token stands in its text (first character, one after the
            last), or None.
        labels: (N,) int64, or None.
        label_names: what the labels mean.
        names: N names of documents, or [].
        source: where the documents came from, in words.
        note: what a reader of a result must know about this corpus; "" when nothing.
        ordered: False for bags, in which neighbours mean nothing.
        vectors: the tokens' vectors (`vqbook.topics.embeddings`), or None.
        kept: (N,) int64, each document's place among the texts or rows it was made from.
    """

    words: list[str]
    tokens: np.ndarray
    starts: np.ndarray
    texts: list[str] | None = None
    spans: np.ndarray | None = None
    labels: np.ndarray | None = None
    label_names: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    source: str = ""
    note: str = ""
    ordered: bool = True
    vectors: Vectors | None = None
    kept: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if self.starts.ndim != 1 or len(self.starts) == 0 or self.starts[-1] != len(self.tokens):
            raise ValueError(f"starts must end at the {len(self.tokens):,} tokens, got {self.starts!r}")
        if len(self.tokens) and not 0 <= self.tokens.min() <= self.tokens.max() < len(self.words):
            raise ValueError(f"tokens must be word numbers below {len(self.words):,}")
        sizes = {"texts": self.texts, "labels": self.labels, "names": self.names or None}
        for what, have in sizes.items():
            if have is not None and len(have) != len(self):
                raise ValueError(f"{what} must be one a document: {len(have):,} for {len(self):,} documents")
        if not len(self.kept):
            object.__setattr__(self, "kept", np.arange(len(self)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __repr__(self) -> str:
        return f"Corpus({len(self):,} documents, {len(self.tokens):,} tokens, {len(self.words):,} words)"

    @cached_property
    def counts(self) -> Any:
        """How often each word stands in each document, (N, V) SciPy CSR of int32."""
        from scipy.sparse import csr_matrix

        ones = np.ones(len(self.tokens), np.int32)
        counts = csr_matrix((ones, self.tokens.copy(), self.starts), shape=(len(self), len(self.words)))
        counts.sum_duplicates()
        return counts

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64 tokens in each document."""
        return np.diff(self.starts)

    @cached_property
    def document_of_token(self) -> np.ndarray:
        """(n_tokens,) int32."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.lengths)

    def take(self, indices: Any) -> Corpus:
        """The documents at `indices` ((n,) integers, or an (N,) mask), with the same vocabulary."""
        at = np.asarray(indices)
        i = np.arange(len(self))[at if at.size else at.astype(np.int64)]
        sizes = self.lengths[i]
        starts = np.concatenate([[0], sizes.cumsum()])
        at = np.arange(starts[-1]) + np.repeat(self.starts[i] - starts[:-1], sizes)
        return replace(
            self,
            tokens=self.tokens[at],
            starts=starts,
            texts=None if self.texts is None else [self.texts[d] for d in i.tolist()],
            spans=None if self.spans is None else self.spans[at],
            labels=None if self.labels is None else self.labels[i],
            names=[self.names[d] for d in i.tolist()] if self.names else [],
            vectors=None if self.vectors is None else self.vectors._replace(rows=self.vectors.rows[at]),
            kept=self.kept[i],
        )

    def split(
        self, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15), seed: int = 0
    ) -> tuple[Corpus, Corpus, Corpus]:
        """Train, validation and test documents, shuffled; their sizes round as OCTIS's do.

        Of N documents, ceil(fraction N) go to validation and to test, the rest to train: of 16,309 in
        shares of 0.7, 0.15, 0.15, these are 11,415, 2,447 and 2,447.

        Args:
            fractions: shares of train, validation and test; they sum to 1.
            seed: the same seed gives the same split.
        Returns:
            Three corpora with the vocabulary of this one.
        Raises:
            ValueError: for shares that do not sum to 1, or a train part that would be empty.
        """
        if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-9):
            raise ValueError(f"fractions must be three shares that sum to 1, got {fractions}")
        validation, test = (math.ceil(round(f * len(self), 9)) for f in fractions[1:])
        if validation + test >= len(self):
            raise ValueError(f"{len(self)} documents are too few to split into shares of {fractions}")
        order = np.random.default_rng(seed).permutation(len(self))
        ends = np.cumsum([len(self) - validation - test, validation])
        a, b, c = np.split(order, ends)
        return self.take(a), self.take(b), self.take(c)

    def with_vectors(self, vectors: Vectors | None) -> Corpus:
        """The same corpus with a vector for each token.

        Raises:
            ValueError: if `vectors.rows` is not one row a token.
        """
        if vectors is not None and len(vectors.rows) != len(self.tokens):
            raise ValueError(f"{len(vectors.rows):,} rows of vectors for {len(self.tokens):,} tokens")
        return replace(self, vectors=vectors)


def from_texts(
    texts: Sequence[str],
    *,
    labels: Any = None,
    label_names: Sequence[str] = (),
    names: Sequence[str] = (),
    vocabulary: Sequence[str] | None = None,
    stop_words: bool | Sequence[str] = True,
    lemmatise: bool = False,
    min_df: int = 5,
    max_df: float = 0.7,
    max_words: int | None = None,
    min_tokens: int = 1,
    source: str = "",
    note: str = "",
) -> Corpus:
    """Make a corpus of raw texts; `spans` says where in its text each token stands.

    Args:
        texts: N strings. `vqbook.topics.tokens` says what a word is.
        labels: (N,) integers, or None.
        label_names, names, source: as in `Corpus`.
        vocabulary: exactly these words, in this order: stop words and the limits below then play no part.
        stop_words: True for scikit-learn's English list, False for none, or your own list.
        lemmatise: count dictionary forms (English, by simplemma). With a vocabulary, a word counts as itself
            when it is in it, else as its lemma when that is.
        min_df: fewest documents a word must occur in.
        max_df: largest share of the documents it may occur in, in (0, 1].
        max_words: keep the words that occur in most documents, so many; all when None.
        min_tokens: documents with fewer kept tokens are dropped; the note counts them.
        note: put before that count.
    Returns:
        The corpus; the vocabulary is alphabetical unless given.
    Raises:
        ValueError: for limits out of range.
        DataError: if no word or no document is left.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list of strings, got one string")
    if min_df < 1 or not 0 < max_df <= 1 or (max_words is not None and max_words < 1):
        raise ValueError(
            f"min_df must be at least 1, max_df a share in (0, 1] and max_words at least 1, "
            f"got {min_df}, {max_df}, {max_words}"
        )
    forms, form_ids, spans, starts = tokenise(texts)
    if vocabulary is not None:
        words = list(vocabulary)
        of_form = in_vocabulary(forms, words, lemmatise)
    else:
        words, of_form = candidates(forms, stop_words, lemmatise)
    ids = of_form[form_ids]
    if vocabulary is None:
        words, new = frequent(words, ids, starts, min_df, max_df, max_words)
        ids = np.append(new, np.int32(-1))[ids]  # -1 stays -1
    known = ids >= 0
    starts = np.concatenate([[0], known.cumsum()])[starts]
    corpus = Corpus(
        words=words,
        tokens=ids[known],
        starts=starts,
        texts=list(texts),
        spans=spans[known],
        labels=None if labels is None else np.asarray(labels, np.int64),
        label_names=list(label_names),
        names=list(names),
        source=source,
        note=note,
    )
    return _drop_short(corpus, min_tokens)


def from_counts(
    counts: Any,
    words: Sequence[str],
    *,
    labels: Any = None,
    label_names: Sequence[str] = (),
    names: Sequence[str] = (),
    texts: Sequence[str] | None = None,
    min_tokens: int = 1,
    source: str = "",
    note: str = "",
) -> Corpus:
    """Make a corpus of bags: (N, V) counts, whose tokens stand in the vocabulary's order.

    Args:
        counts: whole numbers, a SciPy sparse matrix (or a small dense array), (N, V).
        words: the V words.
        texts: to show beside the bags, or None.
        labels, label_names, names, min_tokens, source, note: as in `from_texts`.
    Returns:
        The corpus, with `ordered=False`.
    Raises:
        ValueError: for negative or fractional counts, or another number of words.
        DataError: if no document is left.
    """
    from scipy.sparse import csr_matrix

    counts = csr_matrix(counts)
    if counts.shape[1] != len(words):
        raise ValueError(f"counts have {counts.shape[1]:,} columns for {len(words):,} words")
    if len(counts.data) and (counts.data.min() < 0 or (counts.data % 1).any()):
        raise ValueError("counts must be whole numbers that are not negative")
    if not counts.has_canonical_format:
        counts = counts.copy()
        counts.sum_duplicates()
    data = counts.data.astype(np.int64)
    corpus = Corpus(
        words=list(words),
        tokens=np.repeat(counts.indices.astype(np.int32), data),
        starts=np.concatenate([[0], data.cumsum()])[counts.indptr],
        texts=None if texts is None else list(texts),
        labels=None if labels is None else np.asarray(labels, np.int64),
        label_names=list(label_names),
        names=list(names),
        source=source,
        note=note,
        ordered=False,
    )
    return _drop_short(corpus, min_tokens)


def from_textset(texts: TextSet, **options: Any) -> Corpus:
    """Make a corpus of a set of `vqbook.data`: its counts where it has some, else its texts.

    Args:
        texts: the set.
        **options: those of `from_texts`; given any that counts words anew (a vocabulary, stop words, a limit),
            the texts are counted although there are counts. `min_tokens` and `names` fit both.
    """
    labels = None if texts.y is None else texts.y.numpy()
    about = {"labels": labels, "label_names": texts.label_names, "source": texts.source, "note": texts.note}
    if texts.counts is not None and not options.keys() - {"min_tokens", "names", *about}:
        return from_counts(texts.counts, texts.vocab, **(about | options))
    return from_texts(texts.texts, **(about | options))


def _drop_short(corpus: Corpus, min_tokens: int) -> Corpus:
    keep = corpus.lengths >= min_tokens
    if not keep.any():
        raise DataError(f"none of the {len(corpus):,} documents holds {max(min_tokens, 1)} known words.")
    if keep.all():
        return corpus
    few = "no known word" if min_tokens == 1 else f"fewer than {min_tokens} known words"
    drop = f"{(~keep).sum():,} of {len(keep):,} documents hold {few} and are left out."
    return replace(corpus.take(keep), note=f"{corpus.note} {drop}".strip())

"""Which words a corpus counts, and as which word each written form counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqbook.data.sets import DataError
from vqbook.topics.tokens import is_noise, lemmatiser, normal_form, stop_word_set


def in_vocabulary(forms: list[str], words: list[str], lemmatise: bool) -> np.ndarray:
    """The number of each form's word, or -1, (F,) int32."""
    number = {normal_form(w): i for i, w in enumerate(words)}
    if len(number) != len(words):
        raise ValueError(f"the vocabulary's {len(words):,} words are only {len(number):,} different ones")
    normal = [normal_form(f) for f in forms]
    if not lemmatise:
        return np.array([number.get(w, -1) for w in normal], np.int32)
    lemma = lemmatiser()
    return np.array([number[w] if w in number else number.get(lemma(w), -1) for w in normal], np.int32)


def candidates(
    forms: list[str], stop_words: bool | Sequence[str], lemmatise: bool
) -> tuple[list[str], np.ndarray]:
    """All words that are not noise, sorted, and each form's number among them (or -1), (F,) int32."""
    stops = stop_word_set(stop_words)
    lemma = lemmatiser() if lemmatise else str
    word_of: dict[str, str] = {}
    for w in dict.fromkeys(normal_form(f) for f in forms):
        if not is_noise(w, stops) and not is_noise(base := lemma(w), stops):
            word_of[w] = base
    words = sorted(set(word_of.values()))
    number = {w: i for i, w in enumerate(words)}
    of_form = [number[word_of[w]] if (w := normal_form(f)) in word_of else -1 for f in forms]
    return words, np.array(of_form, np.int32)


def frequent(
    words: list[str], ids: np.ndarray, starts: np.ndarray, min_df: int, max_df: float, max_words: int | None
) -> tuple[list[str], np.ndarray]:
    """The words within the limits and every candidate's new number (or -1), (V,) int32."""
    total = len(starts) - 1
    document = np.repeat(np.arange(total), np.diff(starts))
    known = ids >= 0
    pairs = np.unique(document[known] * max(len(words), 1) + ids[known])
    df = np.bincount(pairs % max(len(words), 1), minlength=len(words))
    keep = np.flatnonzero((df >= min_df) & (df <= max_df * total))
    if max_words is not None:
        keep = np.sort(keep[np.argsort(-df[keep], kind="stable")[:max_words]])
    if not len(keep):
        raise DataError(
            f"none of the {len(words):,} words of {total:,} documents occurs in at least {min_df} of them and in "
            f"at most {max_df:.0%}: lower min_df, raise max_df or give more text."
        )
    new = np.full(len(words), -1, np.int32)
    new[keep] = np.arange(len(keep))
    return [words[i] for i in keep.tolist()], new

"""Words of running text: where they are, and which form each of them counts as."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np

CONTRACTION = re.compile(r"(?:n't|'(?:m|re|ve|ll|d))$")  # don't, I'm, we're, I've, she'll, he'd


@cache
def word_pattern() -> re.Pattern[str]:
    """A run of letters with their combining marks; an apostrophe between two letters belongs to the word.

    Letters are Unicode's, in every script. Hyphens, digits and underscores separate words. Scripts that
    write no spaces need them put in first: here a run of Chinese characters is one word.
    """
    marks = [c for c in range(0x300, 0x1F000) if unicodedata.category(chr(c))[0] == "M"]
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(marks)) if b != a + 1), len(marks)]
    ranges = "".join(f"{chr(marks[a])}-{chr(marks[b - 1])}" for a, b in pairwise(breaks))
    run = rf"[^\W\d_]+(?:[{ranges}\u200c\u200d]+[^\W\d_]*)*"
    return re.compile(rf"({run}(?:['’]{run})*)")


ASCII_WORD = re.compile("([A-Za-z]+(?:'[A-Za-z]+)*)")  # the same pattern where nothing else can occur


class _Numbers(dict[str, int]):
    """Numbers strings in the order in which they are first asked for."""

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        return number


def tokenise(texts: Iterable[str]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Find the words of many texts; the loop over words runs inside the regular expression.

    Args:
        texts: N strings.
    Returns:
        The F distinct forms as written; for each token its form (n_tokens,) int32 and its place
        (n_tokens, 2) int32, first character and the one after the last; starts (N + 1,) int64, where
        each text's tokens begin.
    """
    numbers = _Numbers()
    forms, spans, sizes = [], [], []
    for text in texts:
        parts = (ASCII_WORD if text.isascii() else word_pattern()).split(text)  # gap, word, gap, word, …, gap
        ends = np.fromiter(map(len, parts), np.int32, len(parts)).cumsum(dtype=np.int32)
        words = parts[1::2]
        forms.append(np.fromiter(map(numbers.__getitem__, words), np.int32, len(words)))
        spans.append(np.stack([ends[:-1:2], ends[1::2]], 1))
        sizes.append(len(words))
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    ids = np.concatenate([np.empty(0, np.int32), *forms])
    return list(numbers), ids, np.concatenate([np.empty((0, 2), np.int32), *spans]), starts


def normal_form(form: str) -> str:
    """Lower case, composed (NFC), with a straight apostrophe and without a possessive 's."""
    return unicodedata.normalize("NFC", form.lower()).replace("’", "'").removesuffix("'s")


def stop_word_set(stop_words: bool | Sequence[str]) -> frozenset[str]:
    """scikit-learn's English list for True, none for False, else the given words in normal form.

    That list holds a few words of content (bill, fire, system): give your own where they matter.
    """
    if stop_words is True:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return ENGLISH_STOP_WORDS
    if isinstance(stop_words, str):
        raise ValueError(f"stop_words must be True, False or a list of words, got the string {stop_words!r}")
    return frozenset(map(normal_form, stop_words or ()))


def is_noise(word: str, stops: frozenset[str]) -> bool:
    """Whether a normal form is a stop word, a contraction of some (don't, I'm), or a single cased letter."""
    return (
        word in stops
        or bool(stops and CONTRACTION.search(word))
        or (len(word) == 1 and word.upper() != word.lower())
        or not word
    )


def lemmatiser(language: str = "en") -> Callable[[str], str]:
    """A word's dictionary form by simplemma.

    Raises:
        DataError: if simplemma is not installed.
    """
    try:
        from simplemma import lemmatize
    except ImportError:
        from vqbook.data.sets import DataError

        raise DataError(
            "lemmatising needs simplemma: pip install simplemma, or leave lemmatise=False."
        ) from None
    return lambda word: lemmatize(word, lang=language).lower()

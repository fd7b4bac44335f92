"""Corpora: words and their places, vocabularies, bags, splits, and the named sets."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from vqbook.data import TextSet, load
from vqbook.data.sets import DataError
from vqbook.topics import Corpus, from_counts, from_texts, from_textset, load_corpus
from vqbook.topics.tokens import tokenise

PLAIN = {"stop_words": False, "min_df": 1, "max_df": 1.0}
needs_data = pytest.mark.skipif(not os.environ.get("VQBOOK_DATA"), reason="VQBOOK_DATA is not set")


def words_of(corpus: Corpus, d: int) -> list[str]:
    return [corpus.words[i] for i in corpus.tokens[corpus.starts[d] : corpus.starts[d + 1]]]


def test_tokens_stand_where_the_spans_say() -> None:
    texts = ["Don't panic: x-ray, l'été 2nd_try!", "", "  ", "हिन्दी में लिखा। Привет, мир…", "İstanbul’s"]
    forms, ids, spans, starts = tokenise(texts)
    assert [len(t) for t in np.split(ids, starts[1:-1])] == [7, 0, 0, 5, 1]
    document = np.repeat(np.arange(5), np.diff(starts))
    for d, form, (a, b) in zip(document, ids, spans, strict=True):
        assert texts[d][a:b] == forms[form]
    assert " ".join(forms) == "Don't panic x ray l'été nd try हिन्दी में लिखा Привет мир İstanbul’s"


def test_ascii_texts_are_cut_like_all_others() -> None:
    from vqbook.topics.tokens import ASCII_WORD, word_pattern

    rng = np.random.default_rng(0)
    for _ in range(200):
        text = bytes(rng.integers(32, 127, 80).astype(np.uint8)).decode() + "a'b''c-d_e'"
        assert ASCII_WORD.split(text) == word_pattern().split(text)


def test_normal_forms_stop_words_and_single_letters() -> None:
    corpus = from_texts(["The cat's x CAFÉ I'm didn't 猫 cafe\u0301"], min_df=1, max_df=1.0)
    assert words_of(corpus, 0) == ["cat", "café", "猫", "café"]
    assert corpus.words == sorted(corpus.words)
    own = from_texts(["the Cat sat"], stop_words=["CAT"], min_df=1, max_df=1.0)
    assert words_of(own, 0) == ["the", "sat"]


def test_document_frequency_limits() -> None:
    texts = ["aa bb bb bb", "aa cc", "aa cc dd", "aa dd"]
    assert from_texts(texts, stop_words=False, min_df=2, max_df=0.9).words == ["cc", "dd"]
    assert from_texts(texts, stop_words=False, min_df=1, max_df=1.0, max_words=2).words == ["aa", "cc"]
    with pytest.raises(DataError, match="lower min_df"):
        from_texts(texts)


def test_short_documents_are_dropped_and_counted() -> None:
    texts = ["red green", "", "blue", "red red blue"]
    one = from_texts(texts, labels=[3, 2, 1, 0], names=list("abcd"), note="Colours.", **PLAIN)
    assert (len(one), one.kept.tolist(), one.labels.tolist(), one.names) == (
        3,
        [0, 2, 3],
        [3, 1, 0],
        ["a", "c", "d"],
    )
    assert one.note == "Colours. 1 of 4 documents hold no known word and are left out."
    two = from_texts(texts, min_tokens=2, **PLAIN)
    assert two.texts == ["red green", "red red blue"] and "fewer than 2" in two.note
    assert len(from_texts(texts, min_tokens=0, **PLAIN)) == 4
    with pytest.raises(DataError, match="none of the 2 documents"):
        from_texts(["", "!"], vocabulary=["red"])
    with pytest.raises(DataError):
        from_texts([])


def test_a_vocabulary_is_taken_as_it_is() -> None:
    corpus = from_texts(["The mice ran", "A mouse"], vocabulary=["mouse", "the", "absent"])
    assert corpus.words == ["mouse", "the", "absent"] and corpus.tokens.tolist() == [1, 0]
    with pytest.raises(ValueError, match="different"):
        from_texts(["x"], vocabulary=["Mouse", "mouse"])


def test_lemmas() -> None:
    pytest.importorskip("simplemma")
    texts = ["The mice were running", "a mouse ran"]
    free = from_texts(texts, lemmatise=True, min_df=1, max_df=1.0)
    assert [words_of(free, d) for d in (0, 1)] == [["mouse", "run"], ["mouse", "run"]]
    fixed = from_texts(texts, vocabulary=["mouse", "run", "running"], lemmatise=True)
    assert words_of(fixed, 0) == ["mouse", "running"]


def test_counts_are_those_of_a_loop() -> None:
    corpus = from_texts(["bb aa bb", "cc", "aa cc cc bb cc"], **PLAIN)
    assert corpus.counts.toarray().tolist() == [[1, 2, 0], [0, 0, 1], [1, 1, 3]]
    assert corpus.tokens.tolist() == [1, 0, 1, 2, 0, 2, 2, 1, 2]  # the counting left the order alone
    assert corpus.document_of_token.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2]


def test_bags() -> None:
    counts = np.array([[0, 2, 1], [0, 0, 0], [1, 0, 0]])
    corpus = from_counts(counts, ["a", "b", "c"], labels=[0, 1, 2])
    assert not corpus.ordered and corpus.tokens.tolist() == [1, 1, 2, 0] and corpus.labels.tolist() == [0, 2]
    np.testing.assert_array_equal(corpus.counts.toarray(), counts[[0, 2]])
    for bad in (-counts, counts * 0.5):
        with pytest.raises(ValueError, match="whole numbers"):
            from_counts(bad, ["a", "b", "c"])
    with pytest.raises(ValueError, match="3 columns for 2 words"):
        from_counts(counts, ["a", "b"])


def test_take_keeps_everything_together() -> None:
    texts = ["aa bb", "cc", "aa aa cc"]
    corpus = from_texts(texts, labels=[5, 6, 7], names=["x", "y", "z"], **PLAIN)
    part = corpus.take([2, 0])
    assert [words_of(part, d) for d in (0, 1)] == [["aa", "aa", "cc"], ["aa", "bb"]]
    assert (part.texts, part.names, part.labels.tolist(), part.kept.tolist()) == (
        [texts[2], texts[0]], ["z", "x"], [7, 5], [2, 0],
    )  # fmt: skip
    assert [part.texts[d][a:b] for d, (a, b) in zip(part.document_of_token, part.spans, strict=True)] == [
        "aa", "aa", "cc", "aa", "bb",
    ]  # fmt: skip
    np.testing.assert_array_equal(part.counts.toarray(), corpus.counts[[2, 0]].toarray())
    assert len(corpus.take(np.array([True, False, True]))) == 2
    assert len(corpus.take([])) == 0


def test_split_sizes_are_those_of_the_authors() -> None:
    one_word_each = Corpus(["a"], np.zeros(16_309, np.int32), np.arange(16_310))
    parts = one_word_each.split()
    assert [len(p) for p in parts] == [11_415, 2_447, 2_447]
    assert sorted(np.concatenate([p.kept for p in parts])) == list(range(16_309))
    np.testing.assert_array_equal(one_word_each.split()[1].kept, parts[1].kept)
    with pytest.raises(ValueError, match="sum to 1"):
        one_word_each.split((0.5, 0.1, 0.1))
    with pytest.raises(ValueError, match="too few"):
        one_word_each.take([0, 1]).split()


def test_bad_corpora_are_refused() -> None:
    with pytest.raises(ValueError, match="starts must end"):
        Corpus(["a"], np.zeros(3, np.int32), np.array([0, 2]))
    with pytest.raises(ValueError, match="word numbers"):
        Corpus(["a"], np.ones(2, np.int32), np.array([0, 2]))
    with pytest.raises(ValueError, match="labels must be one a document"):
        from_texts(["aa", "bb"], labels=[1], **PLAIN)
    for bad in ({"min_df": 0}, {"max_df": 0}, {"max_words": 0}):
        with pytest.raises(ValueError, match="min_df"):
            from_texts(["aa"], **bad)
    with pytest.raises(ValueError, match="list of strings"):
        from_texts("one text")
    with pytest.raises(ValueError, match="stop_words"):
        from_texts(["aa"], stop_words="english")


def test_from_textset_takes_counts_unless_told_to_count() -> None:
    bars = load("bars", n=20)
    corpus = from_textset(bars)
    assert not corpus.ordered
    np.testing.assert_array_equal(corpus.counts.toarray(), bars.counts.toarray())
    texts = TextSet("own", "all", ["aa bb", "aa"], None, [], "here")
    assert from_textset(texts, **PLAIN).source == "here"


def test_named_sets_that_need_no_file() -> None:
    assert load_corpus("bars", 30).counts.shape == (30, 25)
    with pytest.raises(ValueError, match="corpus must be one of 20ng"):
        load_corpus("21ng")


def test_lee_is_small_and_ordered() -> None:
    pytest.importorskip("simplemma")
    corpus = load_corpus("lee", 40)
    assert len(corpus) == 40 and corpus.ordered
    for d, word, (a, b) in zip(corpus.document_of_token[:50], corpus.tokens, corpus.spans, strict=False):
        assert corpus.texts[d][a:b].lower()[:2] == corpus.words[word][:2] or corpus.words[word]


@needs_data
@pytest.mark.parametrize("name, documents, words", [("nyt", 9_172, 10_000), ("agnews", 12_500, 5_000)])
def test_real_sets(name: str, documents: int, words: int) -> None:
    corpus = load_corpus(name)
    assert corpus.counts.shape == (documents, words) and corpus.labels is not None


@needs_data
def test_agnews_counted_anew_gives_the_counts_that_came_with_it() -> None:
    bag, texts = load("agnews", "test"), load_corpus("agnews")
    ours = texts.counts[texts.kept >= 10_000]
    assert abs(ours.sum() - bag.counts.sum()) <= 0.001 * bag.counts.sum()


@needs_data
def test_20ng_is_raw_text_over_the_lemmas() -> None:
    pytest.importorskip("simplemma")
    corpus = load_corpus("20ng")
    assert len(corpus.words) == 1_612 and corpus.lengths.min() >= 2 and len(corpus.label_names) == 20
    d = int(np.argmax(corpus.lengths == 20))
    a, b = corpus.starts[d], corpus.starts[d + 1]
    place = [corpus.texts[d][i:j] for i, j in corpus.spans[a:b]]
    same = np.mean(
        [w.lower()[0] == corpus.words[t][0] for w, t in zip(place, corpus.tokens[a:b], strict=True)]
    )
    assert same > 0.8


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VQBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("VQBOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_licensed_articles_are_read_from_a_folder(own_data: Path) -> None:
    pytest.importorskip("simplemma")
    with pytest.raises(DataError, match=r"texts.txt \(one article a line\)"):
        load_corpus("nyt_texts")
    (own_data / "nyt_texts").mkdir()
    texts = own_data / "nyt_texts" / "texts.txt"
    texts.write_text("The mice ran home\nStocks fell again\nMice like stocks\nThe end\n", encoding="utf-8")
    corpus = load_corpus("nyt_texts")
    assert len(corpus) == 3 and corpus.labels is None and "mouse" in corpus.words
    assert corpus.source == "VQBOOK_DATA/nyt_texts/texts.txt"
    (own_data / "nyt_texts" / "labels.txt").write_text("0\n1\n1\n0\n")
    assert load_corpus("nyt_texts").labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("listed", [True, False])
def test_20ng_with_and_without_the_list_of_lemmas(own_data: Path, listed: bool) -> None:
    pytest.importorskip("simplemma")
    folder = own_data / "20newsgroups"
    folder.mkdir()
    posts = {
        "train": ["From: a@b\n\nCars and drivers sell cars", "From: a@b\n\n"],
        "test": ["From: c@d\n\nEngines drive the car"],
    }
    for split, texts in posts.items():
        rows = (json.dumps({"id": "x/1", "label": 0, "text": t}) for t in texts)
        (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    (folder / "label_names.txt").write_text("rec.autos\n")
    if listed:
        (folder / "octis_vocabulary_1612.txt").write_text("car\nengine\ndriver\n")
    corpus = load_corpus("20ng")
    assert len(corpus) == 2 and "1 of 3 documents" in corpus.note
    assert (corpus.words == ["car", "engine", "driver"]) == listed
    assert ("OCTIS's list of 1,612 is not" in corpus.note) != listed
    assert "car" in words_of(corpus, 0) and "engine" in words_of(corpus, 1)

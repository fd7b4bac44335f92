"""Coherence in the half that was read and in the other: what each model sees, and that a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqbook import halves as module
from vqbook.halves import HALVES, MODELS, REFERENCES, halves, run_halves
from vqbook.table_text import ROWS
from vqbook.topics import load_corpus, npmi


def test_halves_are_disjoint_of_one_size_and_random() -> None:
    corpus = load_corpus("bars", 31)
    read, other = halves(corpus, 0)
    assert len(read) == len(other) == 15
    assert len(set(read) | set(other)) == 30
    assert not np.array_equal(read, halves(corpus, 1)[0])


def test_every_row_of_the_table_that_is_compared_is_here_and_vectors_are_of_the_half_that_is_named() -> None:
    assert all(row in ROWS for row, _ in MODELS.values())
    assert all((half != "") == (ROWS[row].vectors == "word2vec") for row, half in MODELS.values())


def test_npmi_is_counted_in_four_sets_and_a_finished_model_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQBOOK_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("VQBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "MODELS", {name: MODELS[name] for name in ("lda", "tvq-vae-other")})
    seen: list[Any] = []
    learned = module.learned
    monkeypatch.setattr(module, "learned", lambda *about: seen.append(about[0]) or learned(*about))
    checkpoint = tmp_path / "checkpoint.safetensors"
    outcome = run_halves(HALVES["smoke"], seed=0, checkpoint=checkpoint, progress=False)
    corpus = load_corpus("lee", 150)
    read, other = halves(corpus, 0)
    assert len(outcome.values) == 2 * len(REFERENCES)
    assert {tuple(texts.kept) for texts in seen} == {tuple(corpus.take(other).kept)}
    number = {word: v for v, word in enumerate(corpus.words)}
    top = [[number[word] for word in topic.split()] for topic in outcome.history["words"]["lda"]]
    for which, half in {"read": read, "other": other}.items():
        assert outcome.values[f"lda_{which}_npmi"] == pytest.approx(npmi(top, corpus.take(half)).mean())
    monkeypatch.setattr(module, "make", lambda *_: pytest.fail("fitted again"))
    again = run_halves(HALVES["smoke"], seed=0, checkpoint=checkpoint, progress=False)
    assert again.values == outcome.values


def test_what_cannot_be_had_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQBOOK_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(module, "MODELS", {name: MODELS[name] for name in ("lda", "tvq-vae-glove")})

    def missing(corpus: Any) -> Any:
        raise module.DataError("no vectors here")

    monkeypatch.setattr("vqbook.topics.glove", missing)
    outcome = run_halves(HALVES["smoke"], seed=0, checkpoint=None, progress=False)
    assert len(outcome.values) == len(REFERENCES)
    assert "tvq-vae-glove left out: no vectors here" in outcome.summary

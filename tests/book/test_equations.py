"""Every labelled equation of the book is proven by a program that carries its label."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import proofs
import pytest
import torch
from press import equations
from press.source import all_chapters

CHAPTERS = all_chapters()
LABELS = [label for chapter in CHAPTERS for label in chapter.equations]
PROOFS = proofs.all_proofs()


@functools.cache
def error_of(run) -> float:
    return run()


@pytest.mark.parametrize("label", sorted({*LABELS, *PROOFS}))
def test_equation_is_proven(label: str) -> None:
    assert label in PROOFS, f"{label} has no proof: write one in book/proofs"
    assert label in LABELS, f"{label} is proven, and stands in no chapter"
    proof = PROOFS[label]
    error = error_of(proof.run)
    assert error <= proof.tolerance, f"{proof.function}: error {error:.2g}, tolerance {proof.tolerance:g}"


def test_labels_stand_once_and_what_is_printed_is_current() -> None:
    assert equations.differences(CHAPTERS) == []


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, proofs.Proof]:
    fresh: dict[str, proofs.Proof] = {}
    monkeypatch.setattr(proofs, "REGISTRY", fresh)
    monkeypatch.setattr(proofs, "all_proofs", lambda: dict(fresh))
    return fresh


def test_a_proof_is_seeded_and_double(registry: dict[str, proofs.Proof]) -> None:
    @proofs.proof("eq-a", "eq-b", kind="random models", tolerance=1.0)
    def draw() -> float:
        """One number drawn,
        wrapped here.

        Not part of the statement.
        """
        assert torch.randn(1).dtype == torch.float64
        return torch.randn(1).item()

    assert draw() == draw() and torch.get_default_dtype() == torch.float32
    assert registry["eq-a"] is not None and registry["eq-b"].statement == "One number drawn, wrapped here."


def test_bad_proofs_are_refused(registry: dict[str, proofs.Proof]) -> None:
    def silent() -> float:
        return 0.0

    with pytest.raises(ValueError, match="no docstring"):
        proofs.proof("eq-a", kind="sampled", tolerance=1.0)(silent)
    with pytest.raises(ValueError, match="'believed'"):
        proofs.proof("eq-a", kind="believed", tolerance=1.0)
    with pytest.raises(ValueError, match="at least one"):
        proofs.proof(kind="sampled", tolerance=1.0)
    silent.__doc__ = "Nothing."
    proofs.proof("eq-a", kind="sampled", tolerance=1.0)(silent)
    with pytest.raises(ValueError, match="proven twice"):
        proofs.proof("eq-a", kind="sampled", tolerance=1.0)(silent)


def test_failures_are_named(registry: dict[str, proofs.Proof], tmp_path: Path) -> None:
    """A false equation, one that gives NaN, one without proof, a proof for nothing, stale files."""
    first, second = LABELS[:2]

    @proofs.proof(first, kind="enumerated", tolerance=1e-12)
    def false() -> float:
        """One is two."""
        return 1.0

    @proofs.proof(second, kind="enumerated", tolerance=1e-12)
    def nothing() -> float:
        """Not a number."""
        return math.nan

    @proofs.proof("eq-in-no-chapter", kind="enumerated", tolerance=1e-12)
    def idle() -> float:
        """Zero is zero."""
        return 0.0

    store, page = tmp_path / "proofs.json", tmp_path / "equations.md"
    failed = equations.prove(store)
    assert [line.split(":")[0] for line in failed] == [first, second]
    page.write_text(equations.page(CHAPTERS, equations.stored(store)), encoding="utf-8")
    text = "\n".join(equations.differences(CHAPTERS, store, page))
    assert f"{LABELS[2]} has no proof" in text and "eq-in-no-chapter is proven" in text
    assert f"{first}: proofs.json has an error" in text
    assert "run `make" not in text
    entry = json.loads(store.read_text())
    entry["equations"][first]["error"] = 1e-15  # digits are free …
    entry["equations"][second]["tolerance"] = 1.0  # … claims are not
    store.write_text(json.dumps(entry))
    text = "\n".join(equations.differences(CHAPTERS, store, page))
    assert "run `make prove`" in text and "run `make student`" in text


def test_nan_is_never_small() -> None:
    assert proofs.largest(torch.tensor([0.0, math.nan])) == math.inf
    assert proofs.largest(torch.tensor([-3.0, 1.0]), 2.0) == 3.0

"""The ledger of equations: every labelled equation of the book, its proof, and the page that lists both."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from press import address
from press.markup import EQUATION
from press.source import ROOT, Chapter
from vqbook.results import atomic_write

STORE = ROOT / "book" / "proofs" / "proofs.json"
PAGE = ROOT / "book" / "appendix" / "equations.md"


def bodies(chapter: Chapter) -> dict[str, str]:
    """The TeX of each labelled equation of a chapter, in order."""
    prose = [cell.source for cell in chapter.cells if cell.cell_type == "markdown"]
    matches = [match for text in prose for match in EQUATION.finditer(text)]
    return {match["label"]: match["body"].strip() for match in matches if match["label"]}


def stored(store: Path = STORE) -> dict[str, dict[str, Any]]:
    """What ``press prove`` found last, by label."""
    return json.loads(store.read_text(encoding="utf-8"))["equations"] if store.exists() else {}


def prove(store: Path = STORE) -> list[str]:
    """Run every proof and write what was found; returns the failures in words."""
    from proofs import all_proofs

    found: dict[str, dict[str, Any]] = {}
    errors: dict[Any, float] = {}
    for label, proof in all_proofs().items():
        if proof.run not in errors:
            errors[proof.run] = float(f"{proof.run():.1e}")
        found[label] = {**_claim(proof), "error": errors[proof.run]}
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "torch")}}
    text = json.dumps({"versions": versions, "equations": found}, indent=1, ensure_ascii=False)
    atomic_write(store, (text + "\n").encode())
    return [
        f"{label}: error {each['error']} is above its tolerance {each['tolerance']} "
        f"({each['function']} in {each['source']})"
        for label, each in found.items()
        if not each["error"] <= each["tolerance"]
    ]


def _claim(proof: Any) -> dict[str, Any]:
    """What a proof says about itself, before it has run."""
    return {
        "kind": proof.kind,
        "statement": proof.statement,
        "tolerance": proof.tolerance,
        "function": proof.function,
        "source": f"book/{proof.module.replace('.', '/')}.py",
    }


def differences(chapters: list[Chapter], store: Path = STORE, printed: Path = PAGE) -> list[str]:
    """What is unproven, proven for nothing, or stale, in words.

    Digits of errors are not compared, since they differ between machines; that the stored ones are small enough is.
    """
    from proofs import all_proofs

    labels = [label for chapter in chapters for label in chapter.equations]
    proofs, old = all_proofs(), stored(store)
    found = [f"{label} stands in two chapters" for label in sorted(set(labels)) if labels.count(label) > 1]
    found += [f"{label} has no proof in book/proofs" for label in labels if label not in proofs]
    found += [f"{label} is proven, and stands in no chapter" for label in proofs if label not in labels]
    claims = {label: {**each, "error": None} for label, each in old.items()}
    if claims != {label: {**_claim(proof), "error": None} for label, proof in proofs.items()}:
        found.append(f"{store.name} is not of the proofs as they stand now; run `make prove`")
    found += [
        f"{label}: {store.name} has an error above the tolerance"
        for label, each in old.items()
        if not each["error"] <= each["tolerance"]
    ]
    if not printed.exists() or printed.read_text(encoding="utf-8") != page(chapters, old):
        found.append(f"book/appendix/{printed.name} differs from its source; run `make student`")
    return found


def page(chapters: list[Chapter], found: dict[str, dict[str, Any]]) -> str:
    """The page in Markdown: chapter by chapter each equation, and under it what was checked and how well."""
    from proofs import KINDS

    kinds = "; ".join(f"*{kind}* ({meaning})" for kind, meaning in KINDS.items())
    parts = [
        "# Every equation, checked",
        "No numbered equation of this book has to be believed. Each has a small program beside it that "
        "evaluates both sides as they are written, in double precision and from a fixed seed, and a test fails when "
        "an equation has no such program or when the two sides part by more than a stated tolerance. An inequality "
        "counts by how far it is violated, a definition by what follows from it.",
        f"A proof is of one of these kinds: {kinds}. None of them replaces the derivation in the chapter; they "
        "catch what a derivation can still get wrong, a sign, a factor, a condition that was forgotten. The errors "
        "below are those of one machine, to two digits; on another the last digits differ. `make prove` computes "
        "them again.",
    ]
    for chapter in chapters:
        parts.append(f"## {chapter.title}")
        for label, tex in bodies(chapter).items():
            number = chapter.equations[label]
            parts.append(f"```{{math}}\n:nowrap:\n\n\\[{tex} \\tag{{{number}}}\\]\n```")
            parts.append(f"[Equation {number}](#{label}). " + _verdict(found.get(label)))
    return "\n\n".join(parts) + "\n"


def _verdict(each: dict[str, Any] | None) -> str:
    if each is None:
        return "**No proof.**"
    link = f"[`{each['function']}`]({address.blob(each['source'])})"
    error = f"{each['error']:.0f}" if each["error"] == 0 else f"{each['error']:.2g}"
    return (
        f"{each['statement']} *{each['kind'].capitalize()}*; error {error}, tolerance {each['tolerance']:g}; "
        f"proof {link}."
    )

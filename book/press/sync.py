"""Keeps the editions in step with the chapters, by content: what is on disk is what the press would print."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from press.execute import execute, number, write
from press.ledger import page as ledger_page
from press.page import digest, page_edition
from press.source import NOTEBOOKS, ROOT, Chapter
from press.student import student_edition
from vqbook.results import Ledger, atomic_write

LEDGER_PAGE = ROOT / "book" / "appendix" / "ledger.md"


def printed(chapter: Chapter, folder: Path = NOTEBOOKS) -> NotebookNode | None:
    """The page edition on disk, or None."""
    path = folder / f"{chapter.slug}.ipynb"
    return nbformat.read(path, as_version=4) if path.exists() else None


def stale(chapter: Chapter, ledger: Ledger, folder: Path = NOTEBOOKS) -> bool:
    """Has the chapter's code changed since its page edition was executed?"""
    old = printed(chapter, folder)
    return old is None or old.metadata.get("vqbook", {}).get("digest") != digest(
        page_edition(chapter, ledger)
    )


def with_outputs(chapter: Chapter, ledger: Ledger, folder: Path = NOTEBOOKS) -> NotebookNode:
    """The page edition that the source asks for now, with the outputs of the executed one.

    Only for a chapter that is not stale: then code cells correspond one to one.
    """
    old = printed(chapter, folder)
    assert old is not None, f"{chapter.slug} has never been executed"
    new = page_edition(chapter, ledger)
    new.metadata.vqbook = old.metadata.vqbook
    code = [cell for cell in old.cells if cell.cell_type == "code"]
    for cell, before in zip((c for c in new.cells if c.cell_type == "code"), code, strict=True):
        cell.outputs = before.outputs
    number(new)
    return new


def differences(chapters: list[Chapter], ledger: Ledger, folder: Path = NOTEBOOKS) -> list[str]:
    """Every file that is not what the press would print, in words; empty when all agree."""
    found = []
    for chapter in chapters:
        if stale(chapter, ledger, folder):
            found.append(
                f"notebooks/{chapter.slug}.ipynb: the chapter's code changed since it ran; run `make notebooks`"
            )
            continue
        page = with_outputs(chapter, ledger, folder)
        if nbformat.writes(page) != nbformat.writes(printed(chapter, folder)):
            found.append(f"notebooks/{chapter.slug}.ipynb differs from its source; run `make student`")
        path = folder / "student" / f"{chapter.slug}.ipynb"
        wanted = nbformat.writes(student_edition(chapter, page, ledger)) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            found.append(
                f"notebooks/student/{chapter.slug}.ipynb differs from its source; run `make student`"
            )
    extra = {p.stem for p in folder.rglob("*.ipynb")} - {chapter.slug for chapter in chapters}
    found += [f"{name}.ipynb has no chapter in book/chapters" for name in sorted(extra)]
    return found


def press(chapter: Chapter, ledger: Ledger, folder: Path = NOTEBOOKS) -> None:
    """Write both editions of a chapter that is not stale: new prose, outputs kept."""
    page = with_outputs(chapter, ledger, folder)
    write(page, folder / f"{chapter.slug}.ipynb")
    write(student_edition(chapter, page, ledger), folder / "student" / f"{chapter.slug}.ipynb")


def run(chapter: Chapter, ledger: Ledger, *, profile: str, seed: int = 0, folder: Path = NOTEBOOKS) -> None:
    """Execute a chapter at a profile and write both editions."""
    page = page_edition(chapter, ledger)
    folder.mkdir(parents=True, exist_ok=True)
    execute(page, folder, profile=profile, seed=seed)
    write(page, folder / f"{chapter.slug}.ipynb")
    write(student_edition(chapter, page, ledger), folder / "student" / f"{chapter.slug}.ipynb")


def write_ledger_page(ledger: Ledger) -> None:
    write_page(LEDGER_PAGE, ledger_page(ledger))


def write_page(path: Path, text: str) -> None:
    """Write a printed page, unless it says so already: its date is what make goes by."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic_write(path, text.encode())

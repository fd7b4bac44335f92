"""The real chapters: editions on disk are what the press prints; the address stands in one place."""

from __future__ import annotations

import json
import re

import pytest
from nbclient import NotebookClient
from press import address, how_fast, sync
from press.source import NOTEBOOKS, ROOT, STUDENT, Chapter, all_chapters

from vqbook.results import Ledger

CHAPTERS = all_chapters()
IDS = [chapter.slug for chapter in CHAPTERS]


def test_editions_agree_with_their_sources() -> None:
    assert sync.differences(CHAPTERS, Ledger()) == []


def test_ledger_page_agrees_with_the_ledger() -> None:
    from press.ledger import page

    assert sync.LEDGER_PAGE.read_text(encoding="utf-8") == page(Ledger())


def test_tables_of_how_fast_agree_with_the_ledger() -> None:
    assert how_fast.differences(Ledger()) == []
    assert "vqbook: codes and vectors" in how_fast.TABLES.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda p: str(p.relative_to(NOTEBOOKS))
)
def test_notebooks_are_clean_in_git(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= 2 * 1024 * 1024
    assert "/tmp/" not in text and str(ROOT) not in text and "0x7f" not in text
    cells = json.loads(text)["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == ([None] * len(counts) if path.parent == STUDENT else list(range(1, len(counts) + 1)))
    for cell in cells:
        assert set(cell["metadata"]) <= {"tags", "mystnb"}
        assert not any(o.get("name") == "stderr" for o in cell.get("outputs", []))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_published_pages_ran_at_profile_read(chapter: Chapter) -> None:
    page = sync.printed(chapter)
    assert page is not None and page.metadata.vqbook.profile == "read"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_student_notebook_runs_to_its_end(chapter: Chapter, tmp_path, monkeypatch) -> None:
    """With its stubs untouched, offline, at profile smoke: every check says 'not attempted', nothing fails."""
    import nbformat

    for key, value in {"VQBOOK_PROFILE": "smoke", "VQBOOK_EXPLORE": "still", "VQBOOK_DATA": ""}.items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(STUDENT / f"{chapter.slug}.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    checks = [c for c in notebook.cells if "exercise-check" in c.metadata.get("tags", [])]
    assert checks
    for cell in checks:
        assert "not attempted" in str(cell.outputs), cell.source


def test_address_stands_in_one_place() -> None:
    """Every badge, set-up cell and configuration file names the address of pyproject.toml."""
    places = ["README.md", "CITATION.cff", "_config.yml", *address.tracked_texts()]
    ours = address.slug().lower()
    for path in sorted(set(places)):
        text = (ROOT / path).read_text(encoding="utf-8")
        for match in re.finditer(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/", text):
            assert match[1].lower() == ours, path
        if path in ("README.md", "CITATION.cff", "_config.yml"):
            assert address.repository() in text, path
    for path in NOTEBOOKS.rglob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert f'address = \\"{address.repository()}\\"' in text, path
        for match in re.finditer(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/", text):
            assert match[1].lower() == ours, path


def test_a_new_address_reaches_every_place(tmp_path, monkeypatch) -> None:
    """Changing pyproject.toml and running the press leaves no trace of the old address."""
    import subprocess

    old = address.slug()
    names = [n for n in address.tracked_texts() if old in (ROOT / n).read_text(encoding="utf-8")]
    assert "_config.yml" in names and "README.md" in names
    for name in names:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(address, "ROOT", tmp_path)
    urls = {
        "Repository": "https://github.com/someone/else",
        "Documentation": "https://someone.github.io/else",
    }
    monkeypatch.setattr(address, "_urls", lambda: urls)
    assert sorted(address.rewrite(old)) == sorted(names)
    for name in names:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old not in text and old.replace("/", ".github.io/") not in text

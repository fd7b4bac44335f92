"""The press on a small chapter: numbering, page edition, student edition, execution, parity."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from press import address, sync
from press.execute import execute
from press.markup import PressError
from press.page import digest, page_edition, reading_minutes
from press.source import Chapter, read
from press.student import student_edition

from vqbook.results import Ledger


def text_of(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells)


def test_numbers_and_exercises(chapter: Chapter) -> None:
    assert chapter.title == "7. A small chapter"
    assert chapter.equations == {"eq-sum": "7.1"}
    assert chapter.figures == {"fig-dot": "7.1"}
    add, draw = chapter.exercises
    assert (add.number, add.check_name, draw.number) == ("7.1", "add", "7.2")
    assert "raise NotImplementedError" in add.stub_code and '"""Sum' in add.stub_code
    assert "sum(x)" in add.solution_code and "BEGIN" not in add.solution_code
    assert "sum(x)" not in add.stub_code
    assert draw.stub_code.startswith("#")


def test_page_edition(chapter: Chapter, ledger: Ledger) -> None:
    page = page_edition(chapter, ledger)
    text = text_of(page)
    assert r"\tag{7.1}" in text and "[(7.1)](#eq-sum)" in text
    assert "The error is 2.00 ± 1.0." in text
    assert "Figure 7.1. One dot, as [(7.1)](#eq-sum) says." in str(page)
    assert "BEGIN SOLUTION" not in text and "sum(x)" in text
    assert "Exercise 7.1 · Add up · ★☆☆ · 5 min" in text
    assert address.colab("07_small.ipynb") in text
    assert "`{eq}` in code stays" in text
    solution = next(c for c in page.cells if "solution" in c.metadata.get("tags", []))
    assert "hide-cell" in solution.metadata.tags


def test_the_line_under_the_title_has_times_to_read_and_to_work(
    chapter: Chapter, source: Path, ledger: Ledger
) -> None:
    assert reading_minutes(chapter) == 10
    hours = sum(exercise.minutes for exercise in chapter.exercises) / 60
    assert f"About 10 min to read, exercises {hours:.0f} h." in text_of(page_edition(chapter, ledger))
    words = "word " * 3100
    more = f"Why? {words}\n\n$$ {words} $$\n\n## Exercises\n\n{words}"
    source.write_text(source.read_text().replace("Why?", more, 1))
    assert reading_minutes(read(source)) == 40  # neither formulas nor exercises count


def test_student_edition_is_lowered(chapter: Chapter, ledger: Ledger) -> None:
    student = student_edition(chapter, page_edition(chapter, ledger), ledger)
    prose = "\n".join(c.source for c in student.cells if c.cell_type == "markdown")
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", prose, flags=re.S)
    assert not re.search(r"\{[a-z:]+\}|:::", outside_code)
    assert "> **Tip.**" in prose and "> A tip about (7.1), with `code`." in prose
    assert "### Exercise 7.1" in prose and "<summary>Hint 2</summary>" in prose
    assert "Addition" not in prose and "sum(x)" not in text_of(student)
    assert "Figure 7.1. One dot, as (7.1) says." in prose


def test_numbering_survives_a_second_label(source: Path) -> None:
    source.write_text(source.read_text() + "\n$$\nb\n$$ (eq-sum)\n")
    with pytest.raises(PressError, match="stands twice"):
        read(source)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":::{hint}\n`sum(` …\n:::\n", "", "1 hints instead of 2"),
        (":::{solution} ex-add\nAddition, see {ex}`ex-add`.\n:::", "", "no solution text"),
        ("    ### BEGIN SOLUTION\n", "", "no cell tagged solution"),
        (":stars: 1\n", "", "lacks"),
        ("# 7. A", "# 8. A", "first line"),
        (":kind: code", ":kind: riddle", "riddle"),
    ],
)
def test_incomplete_chapters_are_refused(source: Path, old: str, new: str, message: str) -> None:
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))
    with pytest.raises(PressError, match=message):
        read(source)


@pytest.mark.parametrize("bad", ["{eq}`eq-none`", "{ledger}`toy|none|.2f`", "{ledger}`toy|mse|.2f|mode`"])
def test_dangling_references_are_refused(source: Path, ledger: Ledger, bad: str) -> None:
    source.write_text(source.read_text() + f"\nSee {bad}.\n")
    with pytest.raises(PressError):
        page_edition(read(source), ledger)


def test_unknown_markup_cannot_be_lowered(source: Path, ledger: Ledger) -> None:
    source.write_text(source.read_text() + "\n:::{margin}\nx\n:::\n")
    chapter = read(source)
    with pytest.raises(PressError, match="cannot lower"):
        student_edition(chapter, page_edition(chapter, ledger), ledger)


def test_run_then_parity_then_prose_then_code(source: Path, ledger: Ledger, tmp_path: Path) -> None:
    """One life of a chapter: executed, in parity; new prose keeps outputs; new code makes it stale."""
    folder = tmp_path / "notebooks"
    sync.run(read(source), ledger, profile="smoke", folder=folder)
    assert sync.differences([read(source)], ledger, folder) == []
    page = nbformat.read(folder / "07_small.ipynb", as_version=4)
    stamp = page.metadata.vqbook
    assert (
        stamp.profile == "smoke"
        and stamp.seed == 0
        and stamp.seconds >= 0
        and "device" in stamp
        and "data" in stamp
    )
    assert "both sides agree" in str(page.cells)
    setup = next(c for c in page.cells if "setup" in c.metadata.get("tags", []))
    assert setup.outputs == [] and setup.execution_count == 1
    student = (folder / "student" / "07_small.ipynb").read_text()
    assert student.count("data:image/png;base64") == 1

    source.write_text(source.read_text().replace("Why?", "Why, really?"))
    assert any("differs from its source" in line for line in sync.differences([read(source)], ledger, folder))
    sync.press(read(source), ledger, folder)
    assert sync.differences([read(source)], ledger, folder) == []
    again = nbformat.read(folder / "07_small.ipynb", as_version=4)
    assert "Why, really?" in again.cells[0].source and "both sides agree" in str(again.cells)

    source.write_text(source.read_text().replace("both sides agree", "both sides differ"))
    assert sync.stale(read(source), ledger, folder)
    assert any("make notebooks" in line for line in sync.differences([read(source)], ledger, folder))

    notebook = nbformat.reads(student, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert "not attempted" in str(notebook.cells)


def test_a_failing_cell_is_reported_and_writes_nothing(source: Path, ledger: Ledger, tmp_path: Path) -> None:
    source.write_text(source.read_text().replace('print("both sides agree")', "1 / 0"))
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        sync.run(read(source), ledger, profile="smoke", folder=tmp_path / "notebooks")
    assert not list((tmp_path / "notebooks").rglob("*.ipynb"))


def test_a_picture_without_alt_is_refused(source: Path, ledger: Ledger, tmp_path: Path) -> None:
    source.write_text(source.read_text().replace("alt: A single dot.", "width: 200px"))
    page = page_edition(read(source), ledger)
    with pytest.raises(PressError, match="alt text"):
        execute(page, tmp_path, profile="smoke")


def test_digest_follows_code_not_prose(source: Path, ledger: Ledger) -> None:
    before = digest(page_edition(read(source), ledger))
    source.write_text(source.read_text().replace("Why?", "Why on earth?"))
    assert digest(page_edition(read(source), ledger)) == before

"""The page edition: MyST that Jupyter Book renders, in a notebook that keeps its executed outputs."""

from __future__ import annotations

import hashlib
from collections import Counter

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from press import address
from press.ledger import number
from press.markup import EQUATION, Directive, PressError, blocks, replace_equations, replace_roles
from press.source import Chapter, tags, without_markers
from vqbook.results import Ledger

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def page_edition(chapter: Chapter, ledger: Ledger) -> NotebookNode:
    """The page edition of a chapter, without outputs."""
    cells = [new_markdown_cell(markdown(chapter.cells[0].source, chapter, ledger))]
    cells += [badges(chapter), setup_cell(chapter)]
    for cell in chapter.cells[1:]:
        if cell.cell_type == "markdown":
            cells.append(new_markdown_cell(markdown(cell.source, chapter, ledger)))
        else:
            cells.append(_code(cell, chapter, ledger))
    notebook = new_notebook(
        cells=cells, metadata={"kernelspec": dict(KERNEL), "vqbook": {"chapter": chapter.slug}}
    )
    name_cells(notebook)
    return notebook


def digest(notebook: NotebookNode) -> str:
    """Hash of the code that was executed: prose may change without running the chapter again."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code" and "setup" not in tags(cell)]
    return hashlib.sha256("\n\0".join(code).encode()).hexdigest()[:16]


def name_cells(notebook: NotebookNode) -> None:
    """Cell ids from content, so that a change in one cell changes one id in git."""
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        name = hashlib.sha256(f"{cell.cell_type}{cell.source}".encode()).hexdigest()[:10]
        seen[name] += 1
        cell.id = f"{name}-{seen[name]}"


def badges(chapter: Chapter) -> NotebookNode:
    """The line under the title: Colab, download, times to read, to work and to run."""
    name = f"{chapter.slug}.ipynb"
    hours = sum(exercise.minutes for exercise in chapter.exercises) / 60
    minutes = (
        f"About {reading_minutes(chapter)} min to read, exercises {hours:.0f} h. {minutes_line(chapter)}"
    )
    return new_markdown_cell(
        f"::::{{div}} chapter-badges\n[Open in Colab]({address.colab(name)}) "
        f"[Student notebook]({address.raw(f'notebooks/student/{name}')}) "
        f"[Source]({address.blob(f'book/chapters/{chapter.slug}.md')}) {minutes}\n::::"
    )


def reading_minutes(chapter: Chapter) -> int:
    """Minutes to the nearest ten for the text before the exercises, at eighty words a minute: formulas and code,
    which are not counted, are read in that time, too.
    """
    text = "\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    prose = EQUATION.sub("", text.split("\n## Exercises")[0])
    return 10 * max(1, round(len(prose.split()) / 800))


def minutes_line(chapter: Chapter) -> str:
    """How long the page's results take; a chapter whose front matter names no gpu minutes needs none."""
    cpu, gpu = chapter.minutes["cpu"], chapter.minutes.get("gpu")
    rest = "no GPU is needed" if gpu is None else f"about {gpu:g} min on a Colab GPU (estimate)"
    return f"At profile *read* about {cpu:g} min on two CPU cores, {rest}"


def setup_cell(chapter: Chapter) -> NotebookNode:
    """The set-up cell: installs the package only when it is missing, and leaves torch and numpy alone."""
    source = f'''\
# Set-up. Installs the book's package where it is missing (Colab); torch and numpy stay as
# they are. For the results of the page, run %env VQBOOK_PROFILE=read before this cell.
try:
    import vqbook
except ModuleNotFoundError:
    import os

    address = "{address.repository()}"
    repository = os.environ.get("VQBOOK_REPOSITORY", address)
    %pip install --quiet --no-deps git+{{repository}}
from vqbook.notebook import setup

setup(chapter="{chapter.slug}", minutes={chapter.minutes})'''
    metadata = {
        "tags": ["setup", "hide-input", "remove-output"],
        "mystnb": {"code_prompt_show": "Set-up cell"},
    }
    return new_code_cell(source, metadata=metadata)


def _code(cell: NotebookNode, chapter: Chapter, ledger: Ledger) -> NotebookNode:
    metadata = nbformat.from_dict(dict(cell.metadata))
    label = metadata.pop("exercise", None)
    if "solution" in tags(cell):
        metadata.tags = [*tags(cell), "hide-cell"]
        prompt = f"Solution {chapter.exercise(label).number}: the code"
        metadata.mystnb = {
            **metadata.get("mystnb", {}),
            "code_prompt_show": prompt,
            "code_prompt_hide": prompt,
        }
    figure = metadata.get("mystnb", {}).get("figure", {})
    if "caption" in figure:
        caption = _roles(figure["caption"], chapter, ledger)
        figure["caption"] = f"Figure {chapter.figures[figure['name']]}. {caption}"
    return new_code_cell(without_markers(cell.source), metadata=metadata)


def markdown(text: str, chapter: Chapter, ledger: Ledger) -> str:
    """Chapter Markdown as the site renders it."""
    parts = []
    for block in blocks(text):
        if isinstance(block, str):
            parts.append(_text(block, chapter, ledger))
        elif block.name == "exercise":
            parts.append(_exercise(block, chapter, ledger))
        elif block.name == "solution":
            number_ = chapter.exercise(block.argument).number
            parts.append(
                _fence(
                    "dropdown", f"Solution {number_}: what it means", block.body, chapter, ledger, "solution"
                )
            )
        elif block.name in ("math", "code-block", "figure", "image", "mermaid"):
            parts.append(block.raw)
        else:
            options = "".join(f":{key}: {value}\n" for key, value in block.options.items())
            inner = markdown(block.body, chapter, ledger)
            fence = _longer_than(inner)
            parts.append(
                f"{fence}{{{block.name}}} {block.argument}".rstrip() + f"\n{options}{inner}\n{fence}"
            )
    return "\n".join(parts)


def _exercise(block: Directive, chapter: Chapter, ledger: Ledger) -> str:
    exercise = chapter.exercise(block.options["label"])
    inner = markdown(exercise.statement, chapter, ledger)
    for i, hint in enumerate(exercise.hints, 1):
        inner += "\n\n" + _fence("dropdown", f"Hint {i}", hint, chapter, ledger, "hint")
    fence = _longer_than(inner)
    return (
        f"({exercise.label})=\n{fence}{{admonition}} {exercise.heading}\n"
        f":class: exercise exercise-{exercise.kind}\n\n{inner}\n{fence}"
    )


def _fence(name: str, title: str, body: str, chapter: Chapter, ledger: Ledger, css: str) -> str:
    inner = markdown(body, chapter, ledger)
    fence = _longer_than(inner)
    option = "class-container" if name == "dropdown" else "class"
    return f"{fence}{{{name}}} {title}\n:{option}: {css}\n\n{inner}\n{fence}"


def _longer_than(text: str) -> str:
    """A colon fence that no fence inside the text can close."""
    longest = max((len(line) - len(line.lstrip(":")) for line in text.split("\n")), default=0)
    return ":" * max(3, longest + 1)


def _text(text: str, chapter: Chapter, ledger: Ledger) -> str:
    def equation(label: str, body: str) -> str:
        tag = chapter.equations[label]
        return f"({label})=\n```{{math}}\n:nowrap:\n\n\\[{body} \\tag{{{tag}}}\\]\n```"

    return _roles(replace_equations(text, equation), chapter, ledger)


def _roles(text: str, chapter: Chapter, ledger: Ledger) -> str:
    def rewrite(role: str, content: str) -> str | None:
        label = content.strip()
        if role == "eq":
            return f"[({_known(chapter.equations, label, chapter)})](#{label})"
        if role == "numref":
            return f"[Figure {_known(chapter.figures, label, chapter)}](#{label})"
        if role == "ex":
            return f"[Exercise {chapter.exercise(label).number}](#{label})"
        if role == "ledger":
            return number(content, ledger)
        return None

    return replace_roles(text, rewrite)


def _known(numbers: dict[str, str], label: str, chapter: Chapter) -> str:
    if label not in numbers:
        raise PressError(
            f"{chapter.path.name}: {label!r} is referred to and defined nowhere; known: {sorted(numbers)}"
        )
    return numbers[label]

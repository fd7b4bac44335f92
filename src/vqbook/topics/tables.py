"""Tables of documents: comma- or tab-separated files, JSON and JSON lines, as rows by column name."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

HUGE = 2**31 - 1  # characters in one field of a .csv, where Python's own limit is 131,072
Row = dict[str, Any]


def read_csv(text: str, wanted: str | None = None) -> tuple[list[Row], str]:
    """The rows of a comma-, semicolon-, tab- or bar-separated table; quoted cells may hold line breaks.

    The first row names the columns, unless it looks like a document (a cell of more than 60 characters, or of
    digits only): then the columns are "1", "2", ...

    Args:
        text: the whole file.
        wanted: a column that the user has named; a first row that has it is a header.
    Returns:
        The rows, blank ones left out, and a note on a missing header ("" when there is one).
    Raises:
        ValueError: a quoted cell that is not closed, or goes on after its closing quote; names the line.
    """
    rows = list(_cells(text, _delimiter(text), strict=True))
    if not rows:
        return [], ""
    header = [cell.strip() or str(i) for i, cell in enumerate(rows[0], 1)]
    document = any(len(cell) > 60 or cell.isdecimal() for cell in map(str.strip, rows[0]))
    if document and (wanted not in header or str(wanted).isdecimal()):
        header = [str(i) for i in range(1, max(map(len, rows)) + 1)]
        note = "The first row looks like a document: the table is read as one without column names."
    else:
        rows, note = rows[1:], ""
    seen: Counter[str] = Counter()
    for i, name in enumerate(header):
        seen[name] += 1
        header[i] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return [dict(zip(header, row, strict=False)) for row in rows], note


def _cells(text: str, delimiter: str, strict: bool) -> Iterator[list[str]]:
    """Rows of cells, under a limit on the length of a cell that is put back afterwards."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    before = csv.field_size_limit(HUGE)
    try:
        yield from (row for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num:,}: {error}") from None
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str) -> str:
    """The one of comma, semicolon, tab and bar that cuts the first rows into equally many cells, two or more.

    When none does, the table has one column: the unit separator, which stands in no text.
    """
    even = {}
    for delimiter in ",;\t|":
        widths = [len(row) for row, _ in zip(_cells(text, delimiter, False), range(50), strict=False)]
        if widths and widths[0] > 1:
            even[delimiter] = sum(width == widths[0] for width in widths) / len(widths)
    best = max(even, key=lambda delimiter: even[delimiter], default="")
    return best if best and even[best] > 0.8 else "\x1f"


def read_json(text: str, lines: bool) -> list[Row]:
    """The objects of a JSON list, or of a file with one on each line; a bare string is a text.

    Args:
        text: the whole file.
        lines: whether each line is a document of its own.
    Returns:
        One dictionary a document; a bare string is {"text": ...}.
    Raises:
        ValueError: not JSON, or neither objects nor strings; names the line or the document.
    """
    found: list[Any] = []
    for number, part in enumerate(text.split("\n") if lines else [text], 1):
        try:
            found += [json.loads(part)] if part.strip() else []
        except (ValueError, RecursionError) as error:
            where = f"line {number:,}" if lines else "the file"
            raise ValueError(f"{where} is not JSON ({error})") from None
    if not lines and found:
        if not isinstance(found[0], list):
            raise ValueError(f"it holds a JSON {type(found[0]).__name__}; expected a list of documents")
        found = found[0]
    rows = [{"text": entry} if isinstance(entry, str) else entry for entry in found]
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(
                f'document {i:,} is a JSON {type(row).__name__}; expected an object such as {{"text": "…"}}'
            )
    return rows

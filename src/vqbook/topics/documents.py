"""A reader's own documents: a folder of text files, or one file with a document in each line or row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqbook.data.files import read_bytes
from vqbook.data.sets import DataError
from vqbook.data.texts import decode
from vqbook.topics.tables import Row, read_csv, read_json

KINDS = "a folder of .txt files, or a .csv, .tsv, .jsonl, .json or .txt file (.gz too)"
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
TEXT_COLUMNS = ("text", "body", "content", "document", "abstract", "article", "message", "post", "review")
NAME_COLUMNS = ("id", "name", "title", "doc_id", "docid", "filename", "file", "url")
NEVER_TYPED = dict.fromkeys([*range(9), *range(14, 27), *range(28, 32)])  # control characters of no text


@dataclass(frozen=True)
class Documents:
    """Texts as they were found, one a document, in the order of the files or rows.

    Args:
        texts: N strings, empty ones included.
        names: N names: the file's path within the folder, the row's own name, or "row 7".
        source: where they came from, in words.
        notes: sentences on what was chosen, left out or repaired while reading.
    """

    texts: list[str]
    names: list[str]
    source: str
    notes: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def first_copies(self) -> np.ndarray:
        """(N,) int64: the first document with the same words, white space aside; its own index if it is that."""
        first: dict[str, int] = {}
        return np.array(
            [first.setdefault(" ".join(t.split()), i) for i, t in enumerate(self.texts)], np.int64
        )

    def digest(self) -> str:
        """A short name for exactly these texts and names in this order."""
        total = hashlib.sha256()
        for text in (*self.texts, *self.names):
            total.update(f"{len(text)}:{text}".encode())
        return total.hexdigest()[:16]


def read_documents(
    path: str | Path, *, text_column: str | None = None, name_column: str | None = None
) -> Documents:
    """Read a folder of .txt files, or one .csv, .tsv, .jsonl, .json or .txt file.

    Encodings are told by `vqbook.data.texts.decode`. In a .txt file each line that is not blank is a document.
    The columns of a table are told by their names; else the text is the column with the most characters.

    Args:
        path: the folder or file; a file may be packed as .gz.
        text_column: the column or JSON key that holds the text; in a table without column names "1", "2", ...
        name_column: the one that holds a name for each document.
    Returns:
        All documents found, empty ones and copies included.
    Raises:
        DataError: nothing there, no document in it, a broken or binary file, an unknown column.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"there is no '{path}': name {KINDS}.")
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if (path.is_dir() or kind == ".txt") and (text_column or name_column):
        raise DataError(f"'{path}' holds plain text, which has no columns to choose.")
    if path.is_dir():
        return _folder(path)
    if kind not in (*TABLES, ".txt"):
        raise DataError(f"'{path}' is of a kind that is not read here: name {KINDS}.")
    text, encoding = _text(path)
    notes = [] if encoding == "utf-8-sig" else [f"{path.name} is not UTF-8: read as {encoding}."]
    if kind == ".txt":
        texts = [line for line in text.split("\n") if line.strip()]
        names = [f"line {i}" for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        notes.append("Each line of the file is taken as a document.")
    else:
        texts, names = _columns(path, text, kind, text_column, name_column, notes)
    if not texts:
        raise DataError(f"'{path}' holds no document.")
    return Documents(texts, names, f"{len(texts):,} documents of {path.name}", notes)


def _text(path: Path) -> tuple[str, str]:
    """A file's text, its lines ended by newlines alone, and its encoding."""
    text, encoding = decode(read_bytes(path))
    start = text[:65536]
    if start.startswith("%PDF-") or len(start) - len(start.translate(NEVER_TYPED)) > len(start) // 500:
        raise DataError(f"'{path}' is not text (a binary file?): save it as UTF-8 text.")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def _folder(folder: Path) -> Documents:
    files = sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    wanted = [f for f in files if f.suffix.lower() == ".txt"]
    if not wanted:
        tables = [f.name for f in files if f.suffix.lower() in TABLES]
        hint = f"it holds {tables[0]}: name that file." if tables else f"name {KINDS}."
        raise DataError(f"the folder '{folder}' has no .txt file; {hint}")
    texts, names, other, unread = [], [], [], []
    for file in wanted:
        name = file.relative_to(folder).as_posix()
        try:
            text, encoding = _text(file)
        except DataError:
            unread.append(name)
            continue
        texts.append(text)
        names.append(name)
        other += [] if encoding == "utf-8-sig" else [name]
    if not texts:
        raise DataError(f"no .txt file in '{folder}' can be read as text: are they binary, or damaged?")
    notes = [
        f"{names[0]} is {what}." if len(names) == 1 else f"{len(names):,} files are {what}: {names[0]}, …"
        for names, what in (
            (other, "not UTF-8 and read as UTF-16 or Windows-1252"),
            (unread, "left out, as they are binary or damaged"),
            ([f.name for f in files if f not in set(wanted)], "left out, as only .txt is read"),
        )
        if names
    ]
    return Documents(texts, names, f"{len(texts):,} .txt files of {folder.resolve().name}", notes)


def _columns(
    path: Path, text: str, kind: str, text_column: str | None, name_column: str | None, notes: list[str]
) -> tuple[list[str], list[str]]:
    """The texts and names of a table."""
    try:
        if kind in (".csv", ".tsv"):
            rows, note = read_csv(text, text_column)
            notes += [note] if note else []
        else:
            rows = read_json(text, lines=kind != ".json")
    except ValueError as error:
        hint = " A quote within a quoted cell must be doubled." if kind in (".csv", ".tsv") else ""
        raise DataError(f"'{path}' cannot be read, {error}.{hint}") from None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for wanted in (text_column, name_column):
        if rows and wanted is not None and wanted not in columns:
            raise DataError(f"'{path}' has no column '{wanted}'; it has {', '.join(columns)}.")
    by_name = {column.lower(): column for column in reversed(columns)}
    known = (by_name[name] for name in TEXT_COLUMNS if name in by_name)
    column = text_column or next(known, None) or _longest(path, columns, rows)
    names = (by_name[name] for name in NAME_COLUMNS if name in by_name and by_name[name] != column)
    name_column = name_column or next(names, None)
    if len(columns) > 1:
        notes.append(f"The texts are in the column '{column}' (columns: {', '.join(columns)}).")
    texts = []
    for i, row in enumerate(rows, 1):
        value = row.get(column)
        if not isinstance(value, str | None):
            raise DataError(
                f"'{path}', document {i:,}: '{column}' holds a {type(value).__name__} and not a text; "
                "choose another column with --text-column."
            )
        texts.append(_sound(value or ""))
    return texts, [
        _name(row.get(name_column) if name_column else None) or f"row {i}" for i, row in enumerate(rows, 1)
    ]


def _longest(path: Path, columns: list[str], rows: list[Row]) -> str:
    sizes = {c: sum(len(row[c]) for row in rows if isinstance(row.get(c), str)) for c in columns}
    if rows and not any(sizes.values()):
        raise DataError(f"'{path}' has no column of text; it has {', '.join(columns) or 'no column'}.")
    return max(columns, key=lambda c: sizes[c], default="")


def _name(value: object) -> str:
    return "" if value is None else _sound(" ".join(str(value).split())[:200])


def _sound(text: str) -> str:
    """Without the half characters that JSON escapes can make, which no encoding can write."""
    return text.encode("utf-8", "replace").decode("utf-8")

"""A reader's own documents: every kind of file is read, or refused with one sentence."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
from pathlib import Path

import pytest

from vqbook.data import DataError
from vqbook.topics.documents import read_documents


def test_folder_reads_every_text_file_and_says_what_it_left_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_bytes("naïve\r\ncafé".encode())
    (tmp_path / "b.TXT").write_bytes("naïve café".encode("cp1252"))
    (tmp_path / "c.txt").write_bytes(codecs.BOM_UTF8 + b"marked")
    (tmp_path / "sub" / "d.txt").write_bytes("weit".encode("utf-16"))
    (tmp_path / "e.txt").write_bytes(bytes(range(256)))
    (tmp_path / "f.txt").write_bytes(b"")
    (tmp_path / "g.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "._a.txt").write_bytes(b"\0\5\26\7")
    found = read_documents(tmp_path)
    assert found.names == ["a.txt", "b.TXT", "c.txt", "f.txt", "sub/d.txt"]
    assert found.texts == ["naïve\ncafé", "naïve café", "marked", "", "weit"]
    assert found.first_copies().tolist() == [0, 0, 2, 3, 4]
    said = " ".join(found.notes)
    for part in ("2 files are not UTF-8", "e.txt is left out", "g.pdf is left out, as only .txt is read"):
        assert part in said
    assert len(found.digest()) == 16 and found.digest() != read_documents(tmp_path / "sub").digest()


def test_csv_with_line_breaks_quotes_and_huge_cells(tmp_path: Path) -> None:
    file = tmp_path / "news.csv"
    texts = ["one, two\nthree", 'she said "no"', "x" * 300_000, ""]
    with open(file, "w", newline="", encoding="utf-8-sig") as f:
        csv.writer(f).writerows(
            [["id", "Text", "year"], *([f"d{i}", t, "1999"] for i, t in enumerate(texts))]
        )
    limit = csv.field_size_limit()
    found = read_documents(file)
    assert found.texts == texts
    assert found.names == ["d0", "d1", "d2", "d3"]
    assert found.notes == ["The texts are in the column 'Text' (columns: id, Text, year)."]
    assert csv.field_size_limit() == limit
    assert read_documents(file, text_column="id", name_column="year").names == ["1999"] * 4


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "t.csv"
    rows = [["nr", "summary"], ["1", "a long story, told twice"], ["2", "another, shorter"]]
    file.write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-16")
    found = read_documents(file)
    assert found.texts == [row[1] for row in rows[1:]]
    assert found.names == ["row 1", "row 2"]
    assert "utf-16" in found.notes[0]


def test_csv_without_names_or_with_a_single_column(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("text\nfire, water and smoke\n\nboats; and sails\n")
    assert read_documents(file).texts == ["fire, water and smoke", "boats; and sails"]
    file.write_text("1,the fire burned for two days\n2,boats came in\n")
    found = read_documents(file)
    assert found.texts == ["the fire burned for two days", "boats came in"]
    assert "without column names" in found.notes[0]
    assert read_documents(file, text_column="1").texts == ["1", "2"]
    file.write_text("a,a,text\n1,2\n" + "3,4,five\n" * 5)
    assert read_documents(file).texts == [""] + ["five"] * 5
    assert "columns: a, a (2), text" in read_documents(file).notes[0]


def test_json_in_lists_and_lines(tmp_path: Path) -> None:
    rows = [{"key": 7, "title": "A  title", "body": "one"}, {"body": None}, {"body": "half \ud83d"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress("\n\n".join(json.dumps(row) for row in rows).encode())
    )
    (tmp_path / "c.ndjson").write_text('"one"\n"two"\n')
    for name in ("a.json", "b.jsonl.gz"):
        found = read_documents(tmp_path / name)
        assert found.texts == ["one", "", "half ?"]
        assert found.names == ["A title", "row 2", "row 3"]
    assert read_documents(tmp_path / "a.json", name_column="key").names[0] == "7"
    assert read_documents(tmp_path / "c.ndjson").texts == ["one", "two"]


def test_text_file_has_a_document_a_line(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes("first\n \nsecond\u2028still second".encode())
    found = read_documents(file)
    assert found.texts == ["first", "second\u2028still second"]
    assert found.names == ["line 1", "line 3"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing.csv", None, "there is no"),
        ("t.docx", b"PK", "of a kind that is not read"),
        ("t.txt", b"", "holds no document"),
        ("t.csv", b"", "holds no document"),
        ("t.csv", b"text,id\n", "holds no document"),
        ("t.csv", b'text,id\n"open,1\nand never closed,2\n', "line 3: unexpected end"),
        ("t.csv", bytes(range(256)) * 9, "not text"),
        ("t.csv.gz", b"no gzip", "damaged"),
        ("t.txt", b"%PDF-1.7 words", "not text"),
        ("t.json", b'{"text": "one"}', "a JSON dict; expected a list"),
        ("t.json", b"[1]", "document 1 is a JSON int"),
        ("t.jsonl", b'{"text": "a"}\n{"text"', "line 2 is not JSON"),
        ("t.jsonl", b'{"text": ["a", "b"]}', "holds a list and not a text"),
        ("t.jsonl", b'{"n": 1}', "no column of text"),
    ],
)
def test_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as refused:
        read_documents(tmp_path / name)
    assert len(str(refused.value).splitlines()) == 1


def test_folders_and_columns_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \.txt file; name a folder"):
        read_documents(tmp_path)
    (tmp_path / "t.csv").write_text("text\none two\n")
    with pytest.raises(DataError, match=r"it holds t\.csv"):
        read_documents(tmp_path)
    with pytest.raises(DataError, match="no column 'body'; it has text"):
        read_documents(tmp_path / "t.csv", text_column="body")
    (tmp_path / "b.txt").write_bytes(b"\0" * 99)
    with pytest.raises(DataError, match=r"no \.txt file in .* can be read"):
        read_documents(tmp_path)
    with pytest.raises(DataError, match="no columns to choose"):
        read_documents(tmp_path, name_column="id")

"""`vqbook topics`: strangers' documents go in; tables and a page come out, or one clear sentence."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from vqbook import cli
from vqbook.topics import command, own
from vqbook.topics.map_svg import SHAPES, _apart, draw, look, place
from vqbook.topics.outputs import cell, table_bytes
from vqbook.topics.report import Example, Map, Report, Topic, excerpt, render

FIRES = ["embers", "smoke", "flames", "crew", "brigade", "bushfire", "wind", "burning", "hose", "siren"]
GAMES = ["wicket", "batsman", "bowler", "innings", "pitch", "umpire", "stumps", "cricket", "runs", "bails"]
NASTY = "<script>alert(1)</script> & 'quotes' \x00\u202e"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("VQBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VQBOOK_DATA", raising=False)


def texts(n: int = 40) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(FIRES if i % 2 else GAMES, 30)) for i in range(n)]


def folder(path: Path = Path("my texts")) -> Path:
    path.mkdir()
    for i, text in enumerate(texts()):
        (path / f"{i:02}.txt").write_text(text)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_bytes().decode("utf-8-sig").splitlines()))


class Balanced(HTMLParser):
    """Every element that opens is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_fit_writes_everything_says_topics_and_does_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    mine = folder()
    (mine / "90.txt").write_text("")
    (mine / "91.txt").write_text((mine / "00.txt").read_text() + "\n")
    (mine / "92.txt").write_text("utterly unknown vocabulary")
    (mine / "93.txt").write_text("the embers")
    (mine / "=94.txt").write_bytes("the embers, the smoke, the café".encode("cp1252"))
    words = ["topics", "fit", str(mine), "--model", "lda", "--topics", "2", "--out", "out"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == ["topic", "share", "NPMI", "words"]
    assert any(word in said.out for word in FIRES) and any(word in said.out for word in GAMES)
    for note in (
        "1 document is empty",
        "1 document is the same",
        "1 document is left with one word",
        "not UTF-8",
    ):
        assert note in said.err
    out = Path("out")
    assert {p.name for p in out.iterdir()} == {"model", *command.OURS}
    assert (out / "topics.csv").read_bytes().startswith(b"\xef\xbb\xbftopic,index,share")
    topics = rows(out / "topics.csv")
    assert [t["topic"] for t in topics] == ["1", "2"]
    assert float(topics[0]["share"]) >= float(topics[1]["share"])
    assert sum(int(t["documents"]) for t in topics) == 42
    assert {"embers", "wicket"} <= set(" ".join(t["words"] for t in topics).split())
    table = {row["name"]: row for row in rows(out / "documents.csv")}
    assert len(table) == 45
    assert [int(row["document"]) for row in table.values()] == list(range(1, 46))
    assert table["90.txt"]["status"] == "empty" and table["90.txt"]["topic_1"] == ""
    assert table["92.txt"]["status"] == "no known word"
    assert table["91.txt"]["status"] == "same text as 1"
    assert table["91.txt"]["topic_2"] == table["00.txt"]["topic_2"]
    assert table["93.txt"]["words"] == "1" and table["93.txt"]["status"] == "ok"
    assert table["'=94.txt"]["words"] == "2"
    assert table["00.txt"]["topic"] != table["01.txt"]["topic"] == table["03.txt"]["topic"]
    for row in table.values():
        shares = [float(row[f"topic_{t}"] or "nan") for t in (1, 2)]
        assert row["topic_1"] == "" or sum(shares) == pytest.approx(1, abs=1e-4)
    page = (out / "report.html").read_text(encoding="utf-8")
    Balanced(page)
    assert "Topics of my texts" in page and "vqbook topics fit &#x27;my texts&#x27; --model lda" in page
    assert not re.search(r"https?://(?!www\.w3\.org)|src=|@import|url\(", page)

    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert cli.main(words) == 0
    again = capsys.readouterr()
    assert again.out == said.out and "has this already" in again.err
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert cli.main(["topics", "show", "out"]) == 0
    assert capsys.readouterr().out.startswith(said.out)
    assert cli.main([*words, "--seed", "1"]) == 1
    assert "other documents or settings" in capsys.readouterr().err
    assert cli.main([*words, "--seed", "1", "--overwrite"]) == 0
    assert json.loads((out / "run.json").read_text())["settings"]["seed"] == 1


def test_what_was_interrupted_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["topics", "fit", str(folder()), "--model", "lda", "--topics", "3"]
    whole = own.measure

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(own, "measure", stop)
    assert cli.main(words) == 130
    kept = (Path("my texts-topics") / "model" / "model.json").stat().st_mtime_ns
    assert cli.main(["topics", "apply", "my texts-topics", "my texts"]) == 1
    monkeypatch.setattr(own, "measure", whole)
    monkeypatch.setattr(own, "fit_model", stop)
    capsys.readouterr()
    assert cli.main(words) == 0
    assert "going on with the model" in capsys.readouterr().err
    assert (Path("my texts-topics") / "model" / "model.json").stat().st_mtime_ns == kept


def test_apply_gives_the_same_documents_the_same_topics(capsys: pytest.CaptureFixture[str]) -> None:
    mine = folder()
    assert cli.main(["topics", "fit", str(mine), "--model", "lda", "--topics", "2", "--out", "out"]) == 0
    fitted = rows(Path("out/documents.csv"))
    a, d = '"embers, flames!\nand smoke, sirens, siren"', "wicket stumps bails cricket"
    Path("new.csv").write_text(f"id,text\na,{a}\nb,\nc,nothing known here\nd,{d}\n")
    assert cli.main(["topics", "apply", "out", "new.csv"]) == 0
    new = rows(Path("new-documents.csv"))
    assert [row["status"] for row in new] == ["ok", "empty", "no known word", "ok"]
    assert [row["name"] for row in new] == list("abcd")
    assert new[0]["topic"] == fitted[1]["topic"] != new[3]["topic"] == fitted[0]["topic"]
    assert cli.main(["topics", "apply", "out", str(mine), "--out", "same.csv"]) == 0
    assert rows(Path("same.csv")) == fitted
    capsys.readouterr()
    assert cli.main(["topics", "apply", "out", "new.csv"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["topics", "apply", "out", "new.csv", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "there is no 'nowhere'"),
        (
            ["my texts", "--model", "prodlda", "--topics", "41"],
            "41 topics need at least 41 different documents",
        ),
        (["my texts", "--model", "prodlda", "--topics", "1"], "needs at least 2 topics"),
        (["my texts", "--model", "prodlda", "--embedding", "word2vec"], "leave out --embedding"),
        (["my texts", "--model", "prodlda", "--min-df", "900"], "min_df|900"),
        (["my texts", "--model", "prodlda", "--stop-words", "none.txt"], "none.txt"),
        (["my texts", "--model", "prodlda", "--text-column", "body"], "no columns to choose"),
        (["my texts", "--model", "prodlda", "--out", "my texts"], "holds other things"),
        (["one.csv", "--model", "prodlda", "--topics", "2"], "need at least 2 different documents"),
        (["blank.csv", "--model", "prodlda", "--topics", "2"], "no .* word|word"),
    ],
)
def test_refused_in_one_sentence(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder()
    Path("one.csv").write_text("text\nembers and smoke over the hill and more embers\n")
    Path("blank.csv").write_text('id,text\n1,""\n2," "\n')
    assert cli.main(["topics", "fit", *options]) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vqbook:")]
    assert len(err) == 1
    assert re.search(said, err[0])
    assert not list(Path().glob("*-topics"))


@pytest.mark.parametrize(("n", "topics"), [(2, 2), (3, 1), (8, 1), (8, 2)])
def test_few_documents_and_a_single_topic(n: int, topics: int) -> None:
    Path("few.txt").write_text("\n".join(texts(n)))
    assert cli.main(["topics", "fit", "few.txt", "--model", "lda", "--topics", str(topics)]) == 0
    table = rows(Path("few-topics/documents.csv"))
    assert [row["status"] for row in table] == ["ok"] * n
    page = Path("few-topics/report.html").read_text(encoding="utf-8")
    Balanced(page)
    assert ("<figure>" in page) == (n >= 6 and topics > 1)
    assert page.count("<article") == topics and "nan" not in page


def test_folders_that_no_fit_wrote_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    folder()
    for words in (["show", "my texts"], ["apply", "my texts", "my texts"], ["show", "nowhere"]):
        assert cli.main(["topics", *words]) == 1
        assert "run.json" in capsys.readouterr().err
    Path("bad").mkdir()
    Path("bad/run.json").write_text("{")
    assert cli.main(["topics", "fit", "my texts", "--model", "prodlda", "--out", "bad"]) == 1
    assert "damaged" in capsys.readouterr().err


def test_every_model_has_a_class() -> None:
    for name, (_, vectors) in own.MODELS.items():
        assert own.model_class(name).min_topics >= 1
        assert vectors in (None, "word2vec", "minilm")
    assert command._names() == tuple(own.MODELS)
    assert [own.default_min_df(n) for n in (3, 10, 450, 9_000)] == [1, 2, 4, 5]


def test_tables_are_for_spreadsheets() -> None:
    assert table_bytes([("é", 'a "b"'), (1, "x\ny")]) == '\ufeffé,"a ""b"""\r\n1,"x\ny"\r\n'.encode()
    assert [cell(text) for text in ("=1+1", "-5", "@x", "a=b", "-x")] == ["'=1+1", "-5", "'@x", "a=b", "'-x"]


def test_excerpt_shows_where_the_words_are() -> None:
    text = "nothing " * 100 + "fire\n\nand   smoke and fire " + "again " * 100
    spans = np.array([m.span() for m in re.finditer("fire|smoke", text)])
    pieces = excerpt(text, spans, 120)
    told = "".join(piece for piece, _ in pieces)
    assert [piece for piece, known in pieces if known] == ["fire", "smoke", "fire"]
    assert told.startswith("… nothing") and told.endswith("\u00a0…") and "fire and smoke and fire" in told
    assert len(told) < 130
    assert excerpt("short", np.empty((0, 2), int)) == [("short", False)]
    assert excerpt("", np.empty((0, 2), int)) == []
    assert len("".join(piece for piece, _ in excerpt("x" * 999, np.empty((0, 2), int), 100))) <= 102


def test_map_separates_groups_and_numbers() -> None:
    assert len({look(t) for t in range(64)}) == 64 and len(set(SHAPES)) == 8
    for t in range(60):
        hues, shapes = zip(*(look(t + i) for i in range(4)), strict=True)
        assert len(set(hues)) == len(set(shapes)) == 4
    theta = np.repeat(np.eye(3), 20, axis=0) * 0.9 + 0.1 / 3
    xy = place(theta, seed=0)
    assert xy.min() == 0 and xy.max() == 1
    assert np.array_equal(xy, place(theta, seed=0))
    middle = xy.reshape(3, 20, 2).mean(1)
    spread = np.abs(xy.reshape(3, 20, 2) - middle[:, None]).mean()
    assert np.linalg.norm(middle[0] - middle[1]) > 3 * spread
    spots = _apart(np.full((6, 2), 200.0))
    gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1) + np.eye(6) * 99
    assert gaps.min() > 14
    svg = draw(xy, theta.argmax(1), [NASTY] * 60, ["a", "b", "<c>"])
    assert svg.count("<use ") == 60 and svg.count("<text ") == 3 and "<script" not in svg and "<c>" not in svg
    with pytest.raises(ValueError, match="at least 6 documents and 2 topics"):
        place(theta[:5])


def page() -> Report:
    words = [(NASTY, 0.5), ("fire", 0.25), ("smoke", 0.0)]
    topics = [Topic(words, 0.6, 9, -0.25, [Example(NASTY, 0.75, [(NASTY, False), ("fire", True)])])]
    topics += [Topic(words, 0.4 / 20, 1, 0.5, []) for _ in range(20)]
    rng = np.random.default_rng(0)
    chart = Map(rng.random((300, 2)), rng.integers(0, 21, 300), [NASTY] * 300, "caption " + NASTY)
    return Report(NASTY, NASTY, [("Words", "3", NASTY)], topics, chart, [NASTY], [("a", NASTY)], NASTY)


def test_report_escapes_what_documents_say() -> None:
    found = render(page())
    seen = Balanced(found).seen
    assert seen.count("script") == 1 and seen.count("article") == 21 and "iframe" not in seen
    assert "\x00" not in found and "\u202e" not in found
    assert "&lt;script&gt;alert(1)" in found and "<mark>fire</mark>" in found
    assert "−0.25" in found and "default-src 'none'" in found
    assert "<figure>" not in render(Report("t", "", [], page().topics, None, [], [], ""))


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_report_in_a_browser(width: int, scheme: str, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    (tmp_path / "report.html").write_text(render(page()), encoding="utf-8")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        trouble: list[str] = []
        view.on("console", lambda message: trouble.append(message.text))
        view.on("pageerror", lambda error: trouble.append(str(error)))
        view.goto((tmp_path / "report.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        view.get_by_role("button", name="NPMI").click()
        assert view.locator("tbody tr").first.get_attribute("data-topic") == "2"
        view.get_by_role("button", name="NPMI").click()
        assert view.locator("tbody tr").first.get_attribute("data-topic") == "1"
        view.locator("tbody tr").first.hover()
        assert view.locator(".map[data-dim] g[data-on]").count() == 1
        assert trouble == []
        browser.close()

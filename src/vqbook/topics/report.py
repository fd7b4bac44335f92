"""A report on topics as one HTML page that needs nothing else: no network, no script, no colour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqbook.topics.map_svg import draw, look, marker

HERE = Path(__file__).parent
ALONE = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # it may load nothing
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
Piece = tuple[str, bool]  # some text, and whether it is one of the topic's words


class Example(NamedTuple):
    """A document of a topic: its name, the topic's share in it, an excerpt."""

    name: str
    share: float
    pieces: list[Piece]


@dataclass(frozen=True)
class Topic:
    """One topic as the report shows it.

    Args:
        words: the first words with their probabilities, best first.
        share: its mean proportion over the documents.
        documents: how many documents have it as their largest.
        npmi: its coherence.
        examples: documents with much of it.
    """

    words: list[tuple[str, float]]
    share: float
    documents: int
    npmi: float
    examples: list[Example]

    @property
    def title(self) -> str:
        """Its first three words."""
        return ", ".join(word for word, _ in self.words[:3])


class Map(NamedTuple):
    """Documents in the plane: positions (n, 2), largest topics (n,), names, and what to say below."""

    xy: np.ndarray
    topics: np.ndarray
    names: list[str]
    caption: str


@dataclass(frozen=True)
class Report:
    """All that the page tells.

    Args:
        title: of the page.
        summary: a sentence below it.
        tiles: numbers at a glance: what, how much, one sentence on it.
        topics: largest first.
        map: of the documents, or None.
        notes: sentences on what was left out or deserves care.
        settings: names and values.
        command: what to type to have the same again.
    """

    title: str
    summary: str
    tiles: list[tuple[str, str, str]]
    topics: list[Topic]
    map: Map | None
    notes: list[str]
    settings: list[tuple[str, str]]
    command: str


def excerpt(text: str, spans: np.ndarray, length: int = 280) -> list[Piece]:
    """The stretch of a text with most of the topic's words, in pieces that are or are not such words.

    Args:
        text: the document.
        spans: (n, 2) where the topic's words stand in it, in order.
        length: characters, about.
    """
    begin = 0
    if len(spans):
        held = np.searchsorted(spans[:, 1], spans[:, 0] + length - 60) - np.arange(len(spans))
        begin = max(int(spans[held.argmax(), 0]) - 60, 0)
        if begin:  # at the beginning of a word, unless words are very long
            begin = next((m.end() for m in re.finditer(r"\s+", text[begin : begin + 60])), 0) + begin
    end = min(begin + length, len(text))
    if end < len(text):
        end = begin + max(text[begin:end].rfind(" "), length // 2)
    pieces, at = [("… " if begin else "", False)], begin
    for a, b in spans.tolist():
        if begin <= a and b <= end:
            pieces += [(text[at:a], False), (text[a:b], True)]
            at = b
    pieces += [(text[at:end], False), ("\u00a0…" if end < len(text) else "", False)]
    return [(re.sub(r"[ \t\n\r\f\v]+", " ", piece), known) for piece, known in pieces if piece]


def render(report: Report) -> str:
    """The page as HTML; everything that came from documents is escaped."""
    tiles = "".join(
        f"<li>{_text(what)}<b>{_text(number)}</b><small>{_text(says)}</small></li>"
        for what, number, says in report.tiles
    )
    cards = "".join(_card(t, topic) for t, topic in enumerate(report.topics))
    notes = "".join(f"<li>{_text(note)}</li>" for note in report.notes)
    settings = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in report.settings)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{ALONE}">
<title>{_text(report.title)}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{_text(report.title)}</h1><p>{_text(report.summary)}</p></header>
<main>
<ul class="tiles">{tiles}</ul>
<section><h2>Topics at a glance</h2><div class="over">{_table(report.topics)}{_figure(report)}</div></section>
<section><h2>Each topic</h2>
<p class="soft">The first words in the model's own order, which may put those first that set the topic apart; bars and
numbers are their probabilities in it. Then documents with much of the topic, these words marked.</p>
{cards}</section>
{f"<section><h2>About these documents</h2><ul>{notes}</ul></section>" if notes else ""}
<section><h2>How it was made</h2><dl>{settings}</dl>
<p>The same again: <code>{_text(report.command)}</code></p></section>
</main>
<script>{script}</script>
</body>
</html>
"""


def _text(text: str) -> str:
    return escape(UNPRINTABLE.sub(" ", text))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def _table(topics: Sequence[Topic]) -> str:
    rows = "".join(
        f'<tr data-topic="{t + 1}"><td data-value="{t + 1}"><a href="#topic-{t + 1}">{marker(t)}{t + 1}</a></td>'
        f"<td>{_text(', '.join(word for word, _ in topic.words[:8]))}</td>"
        f'<td class="n" data-value="{topic.share:.6f}">{_percent(topic.share)}</td>'
        f'<td class="n" data-value="{topic.documents}">{topic.documents:,}</td>'
        f'<td class="n" data-value="{topic.npmi:.6f}">{_signed(topic.npmi)}</td></tr>'
        for t, topic in enumerate(topics)
    )
    return (
        "<table><caption>Share: mean proportion over the documents. Docs: documents in which the topic is the "
        "largest. NPMI: coherence.</caption><thead><tr>"
        '<th scope="col" data-sort="1">Topic</th><th scope="col">Words</th>'
        '<th scope="col" class="n" data-sort="1">Share</th><th scope="col" class="n" data-sort="1">Docs</th>'
        f'<th scope="col" class="n" data-sort="1">NPMI</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _signed(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}".replace("-", "−")


def _figure(report: Report) -> str:
    if report.map is None:
        return ""
    xy, topics, names, caption = report.map
    titles = [f"topic {t + 1} ({_plain(topic.title)})" for t, topic in enumerate(report.topics)]
    picture = draw(xy, topics, [_plain(name) for name in names], titles)
    return f"<figure>{picture}<figcaption>{_text(caption)}</figcaption></figure>"


def _plain(text: str) -> str:
    return UNPRINTABLE.sub(" ", text)[:80]


def _card(t: int, topic: Topic) -> str:
    hue, _ = look(t)
    most = max((weight for _, weight in topic.words), default=0.0) or 1.0
    words = "".join(
        f'<li><span dir="auto">{_text(word)}</span><svg class="h{hue}" viewBox="0 0 100 8" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect width="{100 * weight / most:.1f}" height="8" rx="1"/></svg>'
        f"<small>{_weight(weight)}</small></li>"
        for word, weight in topic.words
    )
    examples = "".join(
        f'<p class="example" dir="auto"><b>{_text(e.name)} · {e.share:.0%} this topic</b>'
        + "".join(f"<mark>{_text(p)}</mark>" if known else _text(p) for p, known in e.pieces)
        + "</p>"
        for e in topic.examples
    )
    count = f"{topic.documents:,} document{'s' if topic.documents != 1 else ''}"
    facts = f"{_percent(topic.share)} of the corpus · largest in {count} · NPMI {_signed(topic.npmi)}"
    return (
        f'<article class="topic" id="topic-{t + 1}"><header><h3>{marker(t)}{t + 1}. {_text(topic.title)}</h3>'
        f'<span class="soft">{facts}</span></header><ol class="words">{words}</ol>'
        f"<div>{examples or '<p>No document has much of it.</p>'}</div></article>\n"
    )


def _weight(weight: float) -> str:
    return f"{weight:.1%}" if weight >= 0.0995 else f"{weight:.2%}"

"""What a fit leaves behind: a table of topics, a table of documents, the report, lines for the terminal."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from vqbook.topics.documents import Documents
from vqbook.topics.map_svg import FEWEST, MAX_POINTS, place
from vqbook.topics.model import TopicModel
from vqbook.topics.own import Found, Settings
from vqbook.topics.report import Example, Map, Report, Topic, excerpt

TOP, SHOWN, EXAMPLES = 10, 15, 3  # words in the terminal and in the report, documents a topic
PACKAGES = ("vqbook", "torch", "numpy", "scikit-learn", "gensim", "transformers", "bertopic")


def table_bytes(rows: Iterable[Sequence[Any]]) -> bytes:
    """A comma-separated table in UTF-8, with the mark by which Excel knows that it is."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue().encode("utf-8-sig")


def cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: =, +, - or @ in front gets an apostrophe, numbers stay."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text[:1] in tuple("=+-@\t") else text
    return text


def topic_table(found: Found) -> bytes:
    """topics.csv: number, place in the model's arrays, size, coherence, words and their probabilities."""
    counts = np.bincount(found.largest, minlength=len(found.order))
    rows: list[Sequence[Any]] = [("topic", "index", "share", "documents", "npmi", "words", "probabilities")]
    for t, index in enumerate(found.order.tolist()):
        numbers = (f"{found.shares[t]:.5f}", int(counts[t]), f"{found.scores.each_npmi[t]:.4f}")
        probabilities = " ".join(f"{w:.5f}" for w in found.weights[t].tolist())
        rows.append((t + 1, index, *numbers, " ".join(found.words(t, found.top.shape[1])), probabilities))
    return table_bytes(rows)


def document_table(documents: Documents, kept: np.ndarray, lengths: np.ndarray, theta: np.ndarray) -> bytes:
    """documents.csv: every document in its order, its status, its largest topic and all proportions.

    Args:
        documents: all N, copies and empty ones too.
        kept: (n,) which of them have topics.
        lengths: (n,) how many of their words were counted.
        theta: (n, T) their topic proportions.
    """
    row_of = np.full(len(documents), -1)
    row_of[kept] = np.arange(len(kept))
    first = documents.first_copies()
    topics = theta.shape[1]
    head = (
        "document",
        "name",
        "status",
        "words",
        "topic",
        "share",
        *(f"topic_{t + 1}" for t in range(topics)),
    )
    rows: list[Sequence[Any]] = [head]
    for i, (text, name) in enumerate(zip(documents.texts, documents.names, strict=True)):
        row, original = int(row_of[i]), int(first[i])
        status = "ok" if original == i else f"same text as {original + 1}"
        row = row if row >= 0 else int(row_of[original])
        if row < 0:
            status = "no known word" if text.strip() else "empty"
            rows.append((i + 1, cell(name), status, 0, "", "", *[""] * topics))
            continue
        t = int(theta[row].argmax())
        shares = [f"{share:.5f}" for share in theta[row].tolist()]
        rows.append((i + 1, cell(name), status, int(lengths[row]), t + 1, shares[t], *shares))
    return table_bytes(rows)


def terminal_table(rows: Iterable[tuple[int, float, float, list[str]]], width: int = 96) -> str:
    """Topics for the terminal: number, share, NPMI, words."""
    lines = ["topic   share   NPMI  words"]
    for number, share, npmi, words in rows:
        told = textwrap.wrap(", ".join(words), width - 24) or [""]
        lines.append(f"{number:>5} {share:>7.1%} {npmi:>6.2f}  {told[0]}")
        lines += [" " * 22 + more for more in told[1:]]
    return "\n".join(lines)


def told(found: Found) -> str:
    """The topics found, for the terminal."""
    rows = zip(found.shares.tolist(), found.scores.each_npmi.tolist(), strict=True)
    return terminal_table((t + 1, share, npmi, found.words(t, TOP)) for t, (share, npmi) in enumerate(rows))


def make_report(
    found: Found, documents: Documents, model: TopicModel, settings: Settings, notes: list[str], command: str
) -> Report:
    """Put together what the page tells."""
    corpus, scores, number = found.corpus, found.scores, len(found.order)
    counts = np.bincount(found.largest, minlength=number)
    topics = [
        Topic(
            words=list(zip(found.words(t, SHOWN), found.weights[t, :SHOWN].tolist(), strict=True)),
            share=float(found.shares[t]),
            documents=int(counts[t]),
            npmi=float(scores.each_npmi[t]),
            examples=_examples(found, t),
        )
        for t in range(number)
    ]
    many = f"{number} topics" if number != 1 else "one topic"
    tiles = [
        (
            "Documents",
            f"{len(corpus):,}",
            "that the topics rest on: each text once, with at least one counted word.",
        ),
        (
            "Words",
            f"{len(corpus.words):,}",
            f"different ones in the vocabulary, {len(corpus.tokens):,} counted in all.",
        ),
        (
            "Coherence (NPMI)",
            f"{scores.npmi:.3f}".replace("-", "−"),
            "Do the ten first words of a topic stand near each other in these documents? From −1, never, over 0, as "
            "chance has it, to 1, always; the mean over topics. Compare fits of the same documents by it, not corpora.",
        ),
        (
            "Diversity",
            f"{scores.diversity:.2f}",
            "How many of the 25 first words of all topics are different ones? At 1 no two topics share a word.",
        ),
    ]
    return Report(
        title=f"Topics of {documents.source.rsplit(' of ', 1)[-1]}",
        summary=f"{many[0].upper()}{many[1:]} that {model.name} finds in {documents.source}, largest first.",
        tiles=tiles,
        topics=topics,
        map=_map(found, settings.seed),
        notes=notes,
        settings=_settings(model, settings),
        command=command,
    )


def _examples(found: Found, topic: int) -> list[Example]:
    """Documents with most of the topic, among those that are not very short."""
    corpus, share = found.corpus, found.theta[:, topic]
    long_enough = corpus.lengths >= min(np.quantile(corpus.lengths, 0.25), 20)
    best = np.argsort(np.where(long_enough, -share, 0), kind="stable")[:EXAMPLES]
    out = []
    for d in best[share[best] > 1 / (len(found.order) + 1)].tolist():
        tokens = slice(corpus.starts[d], corpus.starts[d + 1])
        assert corpus.texts is not None and corpus.spans is not None
        spans = corpus.spans[tokens][np.isin(corpus.tokens[tokens], found.top[topic, :SHOWN])]
        out.append(Example(corpus.names[d], float(share[d]), excerpt(corpus.texts[d], spans)))
    return out


def _map(found: Found, seed: int) -> Map | None:
    n, number = found.theta.shape
    if n < FEWEST or number < 2:
        return None
    which = np.arange(n)
    caption = (
        "Each mark is a document in the shape and colour of its largest topic; the numbers are the topics'. Documents "
        "that stand together have alike topics; sizes of gaps, and directions, mean nothing (t-SNE of the topic "
        "proportions)."
    )
    if n > MAX_POINTS:
        which = np.sort(np.random.default_rng(seed).permutation(n)[:MAX_POINTS])
        caption += f" {MAX_POINTS:,} of the {n:,} documents are drawn, chosen at random."
    xy = place(found.theta[which], seed)
    return Map(xy, found.largest[which], [found.corpus.names[i] for i in which.tolist()], caption)


def _settings(model: TopicModel, settings: Settings) -> list[tuple[str, str]]:
    given = ", ".join(f"{key} = {value}" for key, value in model.get_params().items() if key != "num_topics")
    stops = {"english": "scikit-learn's English list", "none": "none"}.get(
        settings.stop_words, settings.stop_words
    )
    rows = [
        ("Model", model.name),
        ("Word vectors", settings.embedding or "none"),
        ("Topics asked for", str(settings.topics)),
        ("Stop words", stops),
        ("Dictionary forms", "yes (simplemma)" if settings.lemmatise else "no"),
        ("Words counted", f"those in {settings.min_df} or more of the documents, and in 70% of them at most"),
        ("The model's own settings", given),
        ("Versions", ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))),
    ]
    return rows


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

"""Checks of chapter 10, topic models: drawing documents, coherence, diversity, and a comparison that is one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vqbook.checks import check, describe, fail
from vqbook.topics import Cooccurrence, Corpus

Answer = Callable[..., Any]


def _numpy(rng: torch.Generator) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**31, (), generator=rng)))


def _number(value: Any) -> float:
    """A finite scalar as a float; fails otherwise."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        fail(f"the result should be one number, got {describe(value)}.")
    if not math.isfinite(number):
        fail(f"the result is {number}; it should be finite. Is a probability zero in a logarithm?")
    return number


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _explained(arrived: float, right: float, slips: dict[str, float]) -> None:
    """Fail with the first slip whose value is the one that arrived, unless that is the right one."""
    for message, wrong in slips.items():
        if _near(arrived, wrong) and not _near(arrived, right):
            fail(message)
    if not _near(arrived, right):
        fail(f"the result is {arrived:.5f}; expected {right:.5f}.")


@check("ex-tm-draw", takes="alpha, beta, lengths, rng")
def documents(answer: Answer, rng: torch.Generator) -> str:
    """Counts (N, V): each document its own theta ~ Dir(alpha), each word its own topic."""
    draws = _numpy(rng)
    alpha = np.array([0.3, 0.8, 1.5])
    beta = np.zeros((3, 7))  # topics without common words, so that the topic of a word can be read off
    for t, block in enumerate(([0, 1], [2, 3, 4], [5, 6])):
        beta[t, block] = draws.dirichlet(np.full(len(block), 8.0))
    N, L = 1_500, 12
    lengths = np.full(N, L)
    lengths[:3] = 5, 30, 1
    counts = answer(alpha.copy(), beta.copy(), lengths.copy(), draws)
    counts = np.asarray(counts)
    if counts.shape != (N, 7):
        fail(f"the counts should have shape (N, V) = {(N, 7)}, got {counts.shape}.")
    if (counts < 0).any() or (counts % 1).any():
        fail("counts should be whole numbers: draw words, do not multiply a length by probabilities.")
    wrong = np.flatnonzero(counts.sum(1) != lengths)
    if len(wrong):
        d = wrong[0]
        fail(f"document {d} should have {lengths[d]} words, and has {int(counts[d].sum())}.")
    counts = counts[3:].astype(float)
    topics = np.stack([counts[:, beta[t] > 0].sum(1) for t in range(3)], 1)  # (N, 3)
    mean, A = topics.mean(0) / L, alpha.sum()
    pair = (topics * (topics - 1)).sum(1).mean() / (L * (L - 1))
    right_pair = float((alpha * (alpha + 1)).sum() / (A * (A + 1)))
    flat = float(((alpha / A) ** 2).sum())
    if pair > 0.995:
        fail(
            "all words of a document come from one topic. The topic is drawn anew for each word; only theta is drawn "
            "once for the document."
        )
    if abs(pair - float((mean**2).sum())) < 0.02:
        if np.abs(mean - alpha / A).max() > 0.05:
            fail("all documents have the same proportions: theta is drawn once for each document.")
        fail(
            "words of one document share their topic no more often than words of two documents: theta is drawn once "
            f"for the document, and kept for its words (chance of a shared topic {pair:.2f}, of two documents "
            f"{flat:.2f}, expected {right_pair:.2f})."
        )
    if np.abs(mean - 1 / 3).max() < 0.03:
        fail(
            "all topics are equally frequent: alpha has one entry for each topic, and the larger is more common."
        )
    if np.abs(mean - alpha / A).max() > 0.05:
        fail(
            f"topics should have shares of about {np.round(alpha / A, 2).tolist()}, got {np.round(mean, 2).tolist()}."
        )
    if abs(pair - right_pair) > 0.04:
        fail(
            f"two words of a document share their topic with probability {pair:.2f}; by the moments of the Dirichlet "
            f"it should be {right_pair:.2f}."
        )
    within = np.stack(
        [counts[:, w].sum() / topics[:, t].sum() for t in range(3) for w in range(7) if beta[t, w]]
    )
    if np.abs(within - beta[beta > 0]).max() > 0.06:
        fail("within a topic the words do not have the topic's probabilities, beta[t].")
    return "lengths, shares of topics, and how often two words share one: as the story says."


def _pair_scores(
    docs: list[list[int]], topic: list[int], window: int, *, boolean: bool = True, short: bool = True
) -> list[tuple[float, float, float]]:
    """(P(i), P(j), P(i, j)) for each ordered pair, by the definition or with one part of it left out."""
    held = []
    for doc in docs:
        if short or len(doc) >= window:
            held += [doc[k : k + window] for k in range(max(len(doc) - window + 1, 1))]
    n = np.array([[w.count(i) for i in topic] for w in held], float)
    inside = np.minimum(n, 1) if boolean else n
    one, both = inside.mean(0), inside.T @ inside / len(held)
    return [(one[i], one[j], both[i, j]) for i, j in itertools.permutations(range(len(topic)), 2)]


def _npmi(pairs: list[tuple[float, float, float]], eps: float) -> float:
    scores = [math.log((c + eps) / (a * b)) / -math.log(c + eps) for a, b, c in pairs]
    return sum(scores) / len(scores)


@check("ex-tm-npmi", takes="topic, docs, window, eps")
def coherence(answer: Answer, rng: torch.Generator) -> str:
    """Mean NPMI over ordered pairs; boolean sliding windows, short documents are one window."""
    draws, eps = _numpy(rng), 1e-12
    for window, words in ((4, 5), (3, 4), (6, 6)):
        docs = [
            (9 * draws.random(n) ** 1.5).astype(int).tolist()
            for n in [*draws.integers(window + 4, 30, 15), *draws.integers(1, window, 6)]
        ]
        docs += [[i, i + 1, i] for i in range(words - 1)] + [[0, 8, 8, words - 1]]
        topic = list(range(words))
        right = _npmi(_pair_scores(docs, topic, window), eps)
        value = _number(answer(list(topic), [list(d) for d in docs], window, eps))
        tumbling = [d[k : k + window] for d in docs for k in range(0, len(d), window)]
        whole = max(len(d) for d in docs)
        both = _pair_scores(docs, topic, window)
        diagonal = [(a, a, a) for a in {i: both[i * (words - 1)][0] for i in range(words)}.values()]
        pmi = sum(math.log((c + eps) / (a * b)) for a, b, c in both) / len(both)
        slips = {
            "The windows do not slide: they should begin at every word, not at every `window`-th.": _npmi(
                _pair_scores(tumbling, topic, window), eps
            ),
            "Whole documents were taken as windows: a window holds `window` neighbouring words.": _npmi(
                _pair_scores(docs, topic, whole), eps
            ),
            "Documents shorter than the window were left out: each counts as one window.": _npmi(
                _pair_scores(docs, topic, window, short=False), eps
            ),
            "A word that stands twice in a window was counted twice: windows are boolean, a word is in or not.": (
                _npmi(_pair_scores(docs, topic, window, boolean=False), eps)
            ),
            "Pairs of a word with itself are included; they score 1 and flatter every topic.": _npmi(
                both + diagonal, eps
            ),
            "This is PMI: divide each pair by -log(P(i, j) + eps), so that 1 is the most there is.": pmi,
            "The sign of the normaliser is wrong: a logarithm of a probability is negative.": -right,
            "The mean over pairs is missing: this is their sum.": right * len(both),
            "This is the sum over pairs i < j; take the mean.": right * len(both) / 2,
        }
        _explained(value, right, slips)
    # no word may be missing, but a pair that never meets must still give a number
    apart = [[0, 2], [1, 2], [0, 2, 2], [2]]
    right = _npmi(_pair_scores(apart, [0, 1], 2), eps)
    value = _number(answer([0, 1], apart, 2, eps))
    _explained(
        value,
        right,
        {
            "A pair that never meets was left out or scored 0: eps is what lets it have a (low) score.": 0.0,
            "A pair that never meets was given -1. With eps the formula says "
            "-1 + log(P(i) P(j)) / log(eps).": -1.0,
        },
    )
    return "boolean windows that slide, short documents kept, a mean over pairs."


@check("ex-tm-diversity", takes="top_words, n")
def distinct(answer: Answer, rng: torch.Generator) -> str:
    """Share of different words among the first n of every topic."""
    draws = _numpy(rng)
    for T, m, n in ((5, 12, 8), (7, 10, 5), (3, 6, 6)):
        ids = np.stack([draws.permutation(26)[:m] for _ in range(T)])
        ids[1, : n // 2] = ids[0, : n // 2]  # some words are shared
        words = [[f"{chr(97 + i)}." for i in row] for row in ids.tolist()]
        first = [row[:n] for row in words]
        flat = [w for row in first for w in row]
        right = len(set(flat)) / len(flat)
        value = _number(answer([list(row) for row in words], n))
        overlaps = [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in itertools.combinations(first, 2)]
        whole = [w for row in words for w in row]
        slips = {
            "All words of the lists were used; only the first n of each topic count.": len(set(whole))
            / len(whole),
            "Only the first topic's list was cut to n, or the denominator is not T n.": len(set(flat))
            / len(whole),
            "Divide by all T n words, not by the size of the vocabulary that the lists have.": len(set(flat))
            / len(set(whole)),
            "Divide by T n: this divides by n alone.": len(set(flat)) / n,
            "This is one minus the mean overlap of pairs of topics (Jaccard); diversity is the share of different "
            "words in all lists together.": 1 - sum(overlaps) / len(overlaps),
            "This counts the words that stand in one list only. A shared word is still one different word.": sum(
                flat.count(w) == 1 for w in set(flat)
            )
            / len(flat),
            "This is the number of different words; give it as a share of T n.": float(len(set(flat))),
        }
        _explained(value, right, slips)
    same = [["a", "b", "c"]] * 4
    if not _near(_number(answer(same, 3)), 0.25):
        fail("four identical topics should have diversity 1/4.")
    return "from 1 / T for copies of one topic to 1 for topics that share nothing."


def _corpus(draws: np.random.Generator, words: int = 40, docs: int = 60) -> Corpus:
    """Documents in which neighbours go together up to a distance, so that the window matters."""
    lengths = draws.integers(80, 160, docs)
    starts = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    walk = np.concatenate([np.abs(draws.normal(0, 1.6, n)).cumsum() + draws.integers(words) for n in lengths])
    return Corpus([f"w{i}" for i in range(words)], (walk % words).astype(np.int32), starts)


@check("ex-tm-window", takes="topics, corpus")
def score(answer: Answer, rng: torch.Generator) -> str:
    """Mean NPMI in windows of ten words, over the ten first words, however many words are handed over."""
    draws = _numpy(rng)
    corpus = _corpus(draws)
    topics = np.stack([draws.permutation(40) for _ in range(6)])[:, :30]
    counts = Cooccurrence(corpus, window=10)
    right = float(counts.npmi(topics).mean())
    values = {n: _number(answer(topics[:, :n].copy(), corpus)) for n in (10, 20, 30)}
    half = float(np.sort(counts.npmi(topics))[-3:].mean())
    as_given = {n: float(Cooccurrence(corpus, window=n).npmi(topics).mean()) for n in values}
    if all(_near(values[n], as_given[n]) for n in values):
        fail(
            "The same topics score "
            + ", ".join(f"{v:.3f} with {n} words listed" for n, v in values.items())
            + ": the length of the list still sets the window."
        )
    if len({round(v, 9) for v in values.values()}) > 1:
        fail(
            "The score of the same topics depends on how many words are listed: "
            + ", ".join(f"{v:.3f} for {n}" for n, v in values.items())
            + ". The window and the number of words that are scored should both be fixed at 10."
        )
    value = values[10]
    for window in (5, 15, 20, 25, 30, 50, 110, None):
        if _near(value, float(Cooccurrence(corpus, window=window).npmi(topics).mean())):
            what = "whole documents" if window is None else f"windows of {window}"
            fail(
                f"Both models are now measured alike, but in {what}: the published convention is a window of 10."
            )
    _explained(
        value,
        right,
        {
            "This is the mean over the best half of the topics; use all of them.": half,
            "This is the best topic's score; take the mean over topics.": float(counts.npmi(topics).max()),
            "This is the sum over topics; take the mean.": right * len(topics),
        },
    )
    return "one window, ten words, all topics: the length of a list no longer moves the score."

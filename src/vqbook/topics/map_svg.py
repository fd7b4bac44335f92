"""A map of documents: neighbours have alike topics. Drawn as SVG that needs no script and no colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, EDGE = 480, 400, 16
HUES = 8
MAX_POINTS = 2_000
FEWEST = 6  # documents that are worth a map


def _polygon(radii: Sequence[float], turn: float) -> str:
    """A closed path with corners at these distances from the middle, evenly around it."""
    step = 2 * math.pi / len(radii)
    corners = [(r * math.sin(turn + i * step), -r * math.cos(turn + i * step)) for i, r in enumerate(radii)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"


SHAPES = (
    "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0Z",
    "M-3.2-3.2h6.4v6.4h-6.4Z",
    _polygon([4.6] * 3, 0),
    _polygon([4.6] * 4, 0),
    _polygon([4.6] * 3, math.pi),
    "M-1.4-4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3Z",
    _polygon([5.2, 2.1] * 5, 0),
    _polygon([4.2] * 6, 0),
)


def look(topic: int) -> tuple[int, int]:
    """Hue and shape of the topic with this index: 64 topics differ, and any eight in a row do so in both."""
    return topic % HUES, (topic + topic // HUES) % len(SHAPES)


def marker(topic: int) -> str:
    """The topic's mark as a picture within a line."""
    hue, shape = look(topic)
    return (
        f'<svg class="mark h{hue}" viewBox="-6 -6 12 12" aria-hidden="true"><path d="{SHAPES[shape]}"/></svg>'
    )


def place(theta: np.ndarray, seed: int = 0) -> np.ndarray:
    r"""Positions in the plane by t-SNE of the Hellinger distance between topic proportions.

    The distance of two documents is $\lVert \sqrt{\theta_a} - \sqrt{\theta_b} \rVert$.

    Args:
        theta: topic proportions, (n, T) with n at least `FEWEST` and T at least 2.
        seed: of the tiny noise that tells equal documents apart.
    Returns:
        (n, 2) float64 within the unit square.
    Raises:
        ValueError: fewer documents or topics.

    van der Maaten and Hinton, 2008.
    """
    if theta.ndim != 2 or theta.shape[0] < FEWEST or theta.shape[1] < 2:
        raise ValueError(f"a map needs at least {FEWEST} documents and 2 topics, got theta of {theta.shape}")
    from sklearn.manifold import TSNE

    noise = np.random.default_rng(seed).normal(scale=1e-4, size=theta.shape)
    z = np.sqrt(theta.astype(np.float64)) + noise
    xy = TSNE(perplexity=min(30, (len(z) - 1) / 3), init="pca", random_state=seed).fit_transform(z)
    low, high = xy.min(0), xy.max(0)
    return (xy - low) / np.maximum(high - low, 1e-9)


def draw(xy: np.ndarray, topics: np.ndarray, names: Sequence[str], titles: Sequence[str]) -> str:
    """The map as SVG: a mark for each document, a number where a topic has its middle.

    Args:
        xy: (n, 2) positions in the unit square.
        topics: (n,) each document's largest topic, from 0.
        names: the n documents' names; shown when the pointer rests on one.
        titles: how the T topics are called.
    """
    points = EDGE + xy * (WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE)
    groups, middles = [], {}
    for t in np.unique(topics).tolist():
        hue, shape = look(t)
        mine = np.flatnonzero(topics == t)
        away = np.square(points[mine] - np.median(points[mine], axis=0)).sum(1)
        middles[t] = points[mine[away.argmin()]]
        title = escape(titles[t])
        marks = "".join(
            f'<use href="#s{shape}" x="{x:.1f}" y="{y:.1f}"><title>{escape(names[i])}: {title}</title></use>'
            for i, (x, y) in zip(mine.tolist(), points[mine].tolist(), strict=True)
        )
        groups.append(f'<g class="h{hue}" data-topic="{t + 1}">{marks}</g>')
    spots = _apart(np.array(list(middles.values())))
    numbers = "".join(
        f'<a href="#topic-{t + 1}"><text x="{x:.1f}" y="{y + 4.6:.1f}">{t + 1}'
        f"<title>{escape(titles[t])}</title></text></a>"
        for t, (x, y) in zip(middles, spots.tolist(), strict=True)
    )
    size = 1.0 if len(xy) < 500 else 0.75 if len(xy) < 1_200 else 0.6
    shapes = "".join(f'<path id="s{i}" d="{d}" transform="scale({size})"/>' for i, d in enumerate(SHAPES))
    alt = f"Map of {len(xy):,} documents in {len(middles):,} groups by largest topic; the table names the topics."
    return (
        f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{alt}">'
        f'<defs>{shapes}</defs>{"".join(groups)}<g class="numbers">{numbers}</g></svg>'
    )


def _apart(spots: np.ndarray, gap: float = 17.0) -> np.ndarray:
    """Push numbers that would cover each other apart, and keep them inside."""
    spots = spots + 1e-3 * np.arange(len(spots))[:, None]
    for _ in range(60):
        step = spots[:, None] - spots[None]  # (T, T, 2)
        far = np.sqrt(np.square(step).sum(-1)) + np.eye(len(spots)) * gap
        push = np.clip(gap - far, 0, None) / far
        if not push.any():
            break
        spots += 0.5 * (push[..., None] * step).sum(1)
        spots = spots.clip(EDGE / 2, (WIDTH - EDGE / 2, HEIGHT - EDGE / 2))
    return spots

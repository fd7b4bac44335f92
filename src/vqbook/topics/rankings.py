"""How to rank words within a topic."""

from __future__ import annotations

import numpy as np


def distinctive(logits: np.ndarray, sharpness: float = 3.0) -> np.ndarray:
    r"""Words that a topic likes more than others do, by how much and by how surely it is this topic.

    $s_{tv} = c_{tv}\,\frac{\exp(h\, c_{tv})}{\sum_u \exp(h\, c_{uv})}, \qquad
    c_{tv} = (\Lambda_{tv} - \overline{\Lambda_{\cdot v}}) / s$, s the standard deviation of all centred entries.

    Args:
        logits: Λ, or log probabilities, (T, V).
        sharpness: h.
    Returns:
        (T, V), larger is better; with one topic the logits themselves.

    Chapter 11.
    """
    centred = logits - logits.mean(0)
    spread = centred.std()
    if len(logits) < 2 or spread == 0:
        return logits
    c = centred / spread
    share = np.exp(sharpness * (c - c.max(0)))
    return c * share / share.sum(0)


def balanced(logits: np.ndarray, beta: np.ndarray) -> np.ndarray:
    r"""Distinctive words, frequent ones first: `distinctive` knows nothing of frequency, and where documents are few or
    short its words can be too rare to meet.

    $s_{tv} \sqrt{\beta_{tv}}, \qquad s_{tv}$ the score of `distinctive`.

    Args:
        logits: Λ, or log probabilities, (T, V).
        beta: topic-word probabilities, (T, V).
    Returns:
        (T, V), larger is better.

    Chapter 11.
    """
    return distinctive(logits) * np.sqrt(beta)

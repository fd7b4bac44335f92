"""What the authors' code of Topic-VQ-VAE did, as constructor arguments: `TopicVQVAE(20, **VARIANTS["release"])`."""

from __future__ import annotations

from typing import Any

# Not theirs: the word vectors are whatever the corpus has (theirs are BERT's), they are standardised, and the
# VQ-VAE takes 1,000 steps of 256 words (theirs 1,000 passes over the corpus). So few steps from a start far outside the
# sphere leave all words of 20 Newsgroups with the same five codes: give steps, or codes that start by k-means.
_CODES: dict[str, Any] = {
    "class": "ConceptualWords",
    "num_codes": 300,
    "hidden": (500, 500, 1000),
    "combine": "sum",
    "start": "uniform",
    "revive_after": None,
}
_TOPICS: dict[str, Any] = {
    "background": False,
    "start": "random",
    "inputs": "counts",
    "batch_size": 256,
    "patience": 1_000_000,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "july-2023": {
        **_TOPICS,
        "concepts": {**_CODES, "weighting": "inverse"},
        "alpha": "linear",
        "loss": "joint",
        "dropout": 0.2,
        "lr": 5e-4,
        "epochs": 200,
    },
    "release": {
        **_TOPICS,
        "concepts": _CODES,
        "alpha": "mlp",
        "loss": "words",
        "dropout": 0.0,
        "lr": 1e-3,
        "epochs": 500,
    },
}

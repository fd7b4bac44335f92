"""Are topics coherent because their words belong together, or because they were read off the documents that judge them?

Chapter 11. The corpus is cut into two halves at random. Models learn from one, and coherence is counted in both: what
is lost from the half that was read to the other is what reading gave. The same counts in small parts of the halves
show what fewer documents do to the measure itself. One row has its word vectors from the half that its topics do not
see.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqbook.data import DataError
from vqbook.experiments import Outcome, device_words, finished
from vqbook.reproduce_text import Parts, choose, learned, make, usable
from vqbook.results import Ledger, atomic_write
from vqbook.table_text import ROWS, sizes
from vqbook.train import pick_device

if TYPE_CHECKING:
    from vqbook.topics import Corpus

# name: (row of the table, where its word2vec learned)
MODELS = {
    "lda": ("lda", ""),
    "prodlda": ("prodlda", ""),
    "etm": ("etm", "read"),
    "bertopic": ("bertopic", ""),
    "tvq-vae-w2v": ("tvq-vae-w2v", "read"),
    "tvq-vae-other": ("tvq-vae-w2v", "other"),
    "tvq-vae-glove": ("tvq-vae-glove", ""),
    "tvq-vae-minilm": ("tvq-vae-minilm", ""),
}
REFERENCES = ("read", "other", "small_read", "small_other")
SMALL = 0.3  # of a half: the share of the corpus that the table tests on
VALIDATION = 0.15  # of the half that is read
HALVES: dict[str, dict[str, Any]] = {
    profile: {**sizes(profile), "topics": 6 if profile == "smoke" else 20}
    for profile in ("smoke", "read", "full")
}


def halves(corpus: Corpus, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the documents of two random halves, each in a random order; an odd document is in neither."""
    order = np.random.default_rng(seed).permutation(len(corpus))
    half = len(corpus) // 2
    return order[:half], order[half : 2 * half]


def run_halves(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None, progress: bool = True
) -> Outcome:
    """Fit each model that can be fitted here on one half, count NPMI in both and in a part of each."""
    from vqbook.topics import Cooccurrence, load_corpus

    began = time.perf_counter()
    whole = load_corpus(settings["corpus"], settings["n"])
    read, other = halves(whole, seed)
    few = round(SMALL * len(read))
    references = dict(zip(REFERENCES, map(whole.take, (read, other, read[:few], other[:few])), strict=True))
    chosen, _ = choose(settings["corpus"], "read", Ledger())
    here, _ = usable([row for row, _ in MODELS.values()], whole)
    values: dict[str, float] = {}
    words: dict[str, list[str]] = {}
    lines = [f"{'NPMI in':16}" + "".join(f"{name:>13}" for name in REFERENCES)]
    for name, (row, half) in MODELS.items():
        if row not in here:
            continue
        about = ROWS[row]
        s = {**settings, "row": row, "model": about.model, "fixed": about.fixed, "knobs": chosen[row]}
        s |= {"seed": seed, "learned": half}
        stem = checkpoint.parent / name if checkpoint else None
        try:
            top = _topics(s, whole, read, other, stem, progress)
        except DataError as error:
            lines.append(f"{name} left out: {error}")
            continue
        words[name] = [" ".join(whole.words[v] for v in topic[:10]) for topic in top]
        for which, corpus in references.items():
            score = Cooccurrence(corpus, np.array(top)).npmi(top)
            values[f"{name}_{which}_npmi"] = float(score.mean())
        line = "".join(f"{values[f'{name}_{which}_npmi']:13.3f}" for which in REFERENCES)
        lines.append(f"{name:16}{line}")
    said = f"{whole.source}: two halves of {len(read):,} documents, their small parts {few:,}"
    return Outcome(
        values,
        {"words": words} if seed == 0 else {},
        time.perf_counter() - began,
        device_words(pick_device()),
        said,
        whole.note,
        "\n".join(lines),
    )


def _topics(
    s: dict[str, Any], whole: Corpus, read: np.ndarray, other: np.ndarray, stem: Path | None, progress: bool
) -> list[list[int]]:
    """The words of a model's topics, fitted now or kept from an earlier start."""
    from vqbook.topics import contextual, glove

    if done := finished(stem, s):
        kept: list[list[int]] = done["top"]
        return kept
    vectors = ROWS[s["row"]].vectors
    if vectors == "word2vec":
        seen = whole.take(read if s["learned"] == "read" else other)
        whole = whole.with_vectors(learned(seen, whole, s))
    elif vectors:
        whole = whole.with_vectors(glove(whole) if vectors == "glove" else contextual(whole))
    held = round(VALIDATION * len(read))
    train, validation = whole.take(read[held:]), whole.take(read[:held])
    model, _ = make(Parts(whole, train, validation, whole.take(other), {}, {}), train, s)
    top: list[list[int]] = model.fit(train, validation, progress=progress).top_ids(10).tolist()
    if stem is not None:
        atomic_write(stem.with_name(f"{stem.name}.json"), json.dumps({"settings": s, "top": top}).encode())
    return top

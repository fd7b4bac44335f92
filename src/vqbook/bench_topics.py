"""How fast and how small Topic-VQ-VAE is: bags of codes, one whole fit, a corpus with half a million words."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vqbook.bench import paired, peak_of_this_process
from vqbook.table_bench import CODES, NEAR
from vqbook.topics import (
    ConceptualWords,
    Corpus,
    TopicVQVAE,
    Vectors,
    bag_of_codes,
    load_corpus,
    row_counts,
    word2vec,
)
from vqbook.topics.metrics import Cooccurrence, topic_scores

OURS, LOOP = "vqbook: one sparse product", "a Python loop over tokens"
LARGE = (100_000, 500_000)  # documents, words


class TopicsBench(NamedTuple):
    """All numbers of one run, with what they were measured on.

    Attributes:
        corpus: in words.
        repeats: paired rounds of the bags.
        seconds: of the whole run.
        values: every number by name, for the ledger.
    """

    corpus: str
    repeats: int
    seconds: float
    values: dict[str, float]


def bag_candidates(corpus: Corpus, *, by_token: bool, seed: int = 0) -> dict[str, Callable[[], object]]:
    """Ways to make bags of a corpus whose table rows have codes drawn at random.

    Args:
        corpus: N documents.
        by_token: one table row for each token, as contextual vectors have it; else one for each word.
        seed: of the codes.
    Returns:
        Functions by name; each gives (N, M) counts, sparse or dense.
    """
    rows = np.arange(len(corpus.tokens), dtype=np.int32) if by_token else corpus.tokens
    size = len(corpus.tokens) if by_token else len(corpus.words)
    generator = np.random.default_rng(seed)
    first, step = generator.integers(CODES, size=(size, 1)), generator.integers(1, CODES // NEAR, (size, 1))
    codes = ((first + step * np.arange(NEAR)) % CODES).astype(np.int32)  # different within a row

    def loop() -> np.ndarray:
        bags = np.zeros((len(corpus), CODES), np.float32)
        for d in range(len(corpus)):
            for i in range(corpus.starts[d], corpus.starts[d + 1]):
                bags[d, codes[rows[i]]] += 1
        return bags

    return {OURS: lambda: bag_of_codes(rows, corpus.starts, codes, CODES), LOOP: loop}


def fit_seconds(corpus: Corpus, topics: int = 50) -> dict[str, float]:
    """One fit of the default model, early-stopped on validation documents, from word vectors that are there.

    Args:
        corpus: N documents; word2vec is trained on the training split first and is not timed with the fit.
        topics: T.
    Returns:
        Wall-clock and processor seconds, epochs, and the coherence and diversity of what was found.
    """
    train, validation, _ = corpus.split()
    began = time.perf_counter()
    vectors = word2vec(train)
    embedding = time.perf_counter() - began
    train = train.with_vectors(vectors)
    validation = validation.with_vectors(vectors._replace(rows=validation.tokens))
    began, began_cpu = time.perf_counter(), time.process_time()
    concepts = ConceptualWords().fit(vectors.table, row_counts(train))
    middle = time.perf_counter()
    model = TopicVQVAE(topics, concepts=concepts).fit(train, validation)
    wall, processor = time.perf_counter() - began, time.process_time() - began_cpu
    found = topic_scores(model.top_ids(25), Cooccurrence(corpus, model.top_ids(25)))
    return {
        "word2vec / s": embedding,
        "fit / s": wall,
        "fit / processor s": processor,
        "conceptual words / s": middle - began,
        "epochs": float(len(model.history.terms["total"])),
        "npmi": found.npmi,
        "diversity": found.diversity,
    }


def synthetic(documents: int, words: int, tokens: int = 50, dim: int = 50, seed: int = 0) -> Corpus:
    """Documents of Zipf-distributed words with random vectors, the words named by their numbers."""
    generator = np.random.default_rng(seed)
    lengths = generator.poisson(tokens - 1, documents) + 1
    rank = words ** generator.random(lengths.sum())  # log-uniform ranks: frequency falls as 1 / rank
    ids = np.minimum(rank.astype(np.int64), words - 1).astype(np.int32)
    table = generator.standard_normal((words, dim), np.float32).astype(np.float16)
    starts = np.concatenate([[0], lengths.cumsum()])
    corpus = Corpus([f"w{v}" for v in range(words)], ids, starts, ordered=False)
    return corpus.with_vectors(Vectors("random", table, ids))


def peak_here(documents: int, words: int) -> tuple[float, float]:
    """Peak memory of this whole process in GiB, and seconds, of one epoch on a synthetic corpus."""
    began = time.perf_counter()
    corpus = synthetic(documents, words)
    model = TopicVQVAE(20, epochs=1, batch_size=1_024)
    model.fit(corpus)
    model.top_ids(10)
    return peak_of_this_process(), time.perf_counter() - began


def peak_memory(documents: int, words: int) -> tuple[float, float]:
    """peak_here, asked of a fresh process."""
    code = f"from vqbook import bench_topics; print(*bench_topics.peak_here({documents}, {words}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    gib, seconds = map(float, done.stdout.split())
    return gib, seconds


def run(name: str = "20ng", *, repeats: int = 3, large: tuple[int, int] = LARGE) -> TopicsBench:
    """Measure all three.

    Args:
        name: the corpus of bags and fit.
        repeats: paired rounds of the bags.
        large: documents and words of the corpus whose memory is measured.
    """
    began = time.perf_counter()
    corpus = load_corpus(name)
    bags = {
        kind: paired(bag_candidates(corpus, by_token=by_token), repeats=repeats)
        for kind, by_token in (("a vector for each word", False), ("a vector for each token", True))
    }
    values = {
        f"{kind} / {candidate} / {what}": value
        for kind, rows in bags.items()
        for candidate, timing in rows.items()
        for what, value in (("ms", timing.milliseconds), ("ratio", timing.ratio))
    }
    values |= fit_seconds(corpus)
    values["large / GiB"], values["large / s"] = peak_memory(*large)
    values["large / documents"], values["large / words"] = map(float, large)
    about = f"{name}: {len(corpus):,} documents, {len(corpus.tokens):,} tokens, {len(corpus.words):,} words"
    return TopicsBench(about, repeats, time.perf_counter() - began, values)


def record(bench: TopicsBench) -> None:
    """Write one run into the ledger, as bench-topics; an earlier one is replaced."""
    from vqbook.experiments import device_words
    from vqbook.results import Ledger
    from vqbook.train import pick_device

    Ledger().record(
        "bench-topics",
        values=bench.values,
        command=f"vqbook bench topics --repeats {bench.repeats} --ledger",
        data=bench.corpus,
        note="Bags of codes drawn at random. The large corpus is synthetic: Zipf-distributed words, random vectors.",
        profile="read",
        seed=0,
        device=device_words(pick_device()),
        seconds=bench.seconds,
    )

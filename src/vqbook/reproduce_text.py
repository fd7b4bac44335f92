"""Topic models on one corpus, one split and one set of measures: the text table of Topic-VQ-VAE, run by run.

Every (model, topic count, seed) is a run of its own. Models are fitted on the training documents, may stop early on the
validation documents, and meet the test documents only when they are measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vqbook import runs
from vqbook.data.cache import cached
from vqbook.data.paths import cache_folder
from vqbook.results import Ledger, _locked, atomic_write
from vqbook.runs import Found, look, tag
from vqbook.table_text import (
    CLUSTERS,
    CONCEPTS,
    CONVENTIONS,
    PAPERS_OWN,
    RANKINGS,
    ROWS,
    SCORES,
    TRIAL_SEED,
    TRIAL_TOPICS,
    TRIED,
    Knobs,
    Settings,
    counts_table,
    documents_table,
    means,
    rankings_table,
    sizes,
    topics_table,
    trials_table,
)

if TYPE_CHECKING:
    from vqbook.topics import Corpus
    from vqbook.topics.conceptual import ConceptualWords
    from vqbook.topics.embeddings import Vectors

TABLE, TRIALS = "tvqvae-text", "tvqvae-text-settings"  # names in the ledger, before corpus and profile


class Run(NamedTuple):
    """One model to fit and measure.

    Attributes:
        name: of its files, and of its numbers in the ledger.
        row: a key of ROWS.
        topics: how many.
        seed: of everything random in the model.
        knobs: what the row leaves open.
        settings: all that the result depends on.
        held: measure coherence on training and validation documents, and touch no test document.
    """

    name: str
    row: str
    topics: int
    seed: int
    knobs: Knobs
    settings: Settings
    held: bool

    @property
    def words(self) -> str:
        """As a person calls it."""
        what = f"seed {self.seed}, {ROWS[self.row].name}, {self.topics} topics"
        return what + (f" ({tag(self.knobs)})" if self.held else "")


class Parts(NamedTuple):
    """A corpus and its split, the same for all runs, and what this process made last and may need again.

    Attributes:
        with_vectors: the split with vectors, by their kind and seed; one at a time.
        concepts: fitted conceptual words for those vectors, and the CPU seconds that they took, by their settings.
    """

    whole: Corpus
    train: Corpus
    validation: Corpus
    test: Corpus
    with_vectors: dict[tuple[str, int], tuple[Corpus, Corpus, Corpus]]
    concepts: dict[str, tuple[ConceptualWords, float]]


def plan(
    s: Settings,
    *,
    topics: Sequence[int],
    seeds: Sequence[int],
    models: Sequence[str],
    trials: bool,
    chosen: Mapping[str, Knobs],
) -> list[Run]:
    """All runs of a table, or of the trials that choose its settings.

    Args:
        s: from `sizes`.
        topics: topic counts of the table.
        seeds: which seeds of the table; for trials as many, from TRIAL_SEED on.
        models: keys of ROWS, in any order.
        trials: try everything that a row leaves open, with TRIAL_TOPICS topics, instead of what was chosen.
        chosen: knobs of each row, for the table.
    Raises:
        ValueError: an unknown model, or fewer than two topics.
    """
    if unknown := [row for row in models if row not in ROWS]:
        raise ValueError(f"no model {', '.join(map(repr, unknown))}: the models are {', '.join(ROWS)}")
    if not topics or min(topics) < 2:
        raise ValueError(f"topics must be numbers from 2, got {list(topics)}")

    def run(row: str, k: int, seed: int, knobs: Knobs) -> Run:
        name = f"{row}_{tag(knobs)}" if trials else f"{row}_k{k}"
        about = ROWS[row]
        own = {
            "row": row,
            "model": about.model,
            "vectors": about.vectors,
            "fixed": about.fixed,
            "knobs": knobs,
        }
        return Run(name, row, k, seed, knobs, {**s, **own, "topics": k, "seed": seed, "held": trials}, trials)

    return [
        run(row, k, TRIAL_SEED + seed if trials else seed, knobs)
        for seed in seeds
        for row in ROWS
        if row in models and (ROWS[row].tried or not trials)
        for k in ([TRIAL_TOPICS] if trials else topics)
        for knobs in (ROWS[row].trials if trials else [chosen[row]])
    ]


def choose(corpus: str, profile: str, ledger: Ledger) -> tuple[dict[str, Knobs], str]:
    """For each row the trial of best topic quality, as the ledger has it.

    Args:
        corpus: its name.
        profile: smoke, read or full.
        ledger: where the trials are. Those of 20 Newsgroups at read stand in for trials that were not made, and a
            row's first trial where there are none at all.
    Returns:
        ({row: knobs}, where they come from, in words).
    """
    rows = {key: (row.name, row.trials) for key, row in ROWS.items() if row.tried}
    sources = [f"{TRIALS}-{which}" for which in (f"{corpus}-{profile}", "20ng-read")]
    best, whence = runs.choose(
        rows, sources, ledger, lambda values, trial: -values.get(f"{trial}_quality_all", -math.inf)
    )
    return {key: best.get(row.like or key, row.trials[0]) for key, row in ROWS.items()}, whence


def prepare(s: Settings) -> Parts:
    """The corpus of some settings, split."""
    from vqbook.topics import load_corpus

    whole = load_corpus(s["corpus"], s["n"])
    return Parts(whole, *whole.split(), {}, {})


def split_with_vectors(parts: Parts, s: Settings) -> tuple[Corpus, Corpus, Corpus]:
    """Training, validation and test documents with vectors of their words.

    word2vec learns from training and validation documents, with the run's seed, and does not know words that only
    test documents hold. GloVe and the language model were trained elsewhere: their vectors depend on no seed.
    """
    from vqbook.topics import contextual, glove

    name = s["vectors"]
    if not name:
        return parts.train, parts.validation, parts.test
    key = (name, s["seed"] if name == "word2vec" else 0)
    if key not in parts.with_vectors:
        make = {
            "word2vec": lambda corpus: learned(_seen(parts), corpus, s),
            "glove": glove,
            "minilm": contextual,
        }[name]
        parts.with_vectors.clear()  # runs of a kind follow each other
        parts.concepts.clear()
        parts.with_vectors[key] = parts.whole.with_vectors(make(parts.whole)).split()
    return parts.with_vectors[key]


def learned(seen: Corpus, whole: Corpus, s: Settings) -> Vectors:
    """word2vec of the words that seen documents hold, for all tokens; kept, so that one process trains it."""
    from vqbook.topics import Vectors, word2vec

    tokens = whole.tokens
    about = f"{json.dumps(s['word2vec'], sort_keys=True)} {s['seed']}".encode()
    key = hashlib.sha256(seen.tokens.tobytes() + seen.starts.tobytes() + about).hexdigest()[:16]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that cannot be written costs time only
            stack.enter_context(_locked(cache_folder() / "word2vec" / key))
        build = lambda: {"table": word2vec(seen, seed=s["seed"], **s["word2vec"]).table}  # noqa: E731
        table = cached(f"word2vec-{key}", build)["table"]
    known = np.bincount(seen.tokens, minlength=len(seen.words)) > 0
    return Vectors("word2vec", table, np.where(known[tokens], tokens, -1).astype(np.int32))


def _seen(parts: Parts) -> Corpus:
    """Training and validation documents."""
    kept = np.concatenate([parts.train.kept, parts.validation.kept])
    return parts.whole.take(np.isin(parts.whole.kept, kept))


def make(parts: Parts, train: Corpus, s: Settings) -> tuple[Any, float]:
    """The untrained model of a run's settings; conceptual words do not depend on the number of topics and are shared.

    Args:
        parts: where they are kept.
        train: documents to learn conceptual words from, with vectors.
        s: of the run.
    Returns:
        The model, and the CPU seconds that its conceptual words took.
    """
    from vqbook import topics

    given = {**s["fixed"], **s["knobs"], **s["quick"].get(s["model"], {})}
    arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    seconds = 0.0
    if s["model"] == "TopicVQVAE":
        own = arguments.pop("concepts", {}) | {k: arguments.pop(k) for k in CONCEPTS if k in arguments}
        arguments["concepts"], seconds = _conceptual_words(parts, train, {"seed": s["seed"], **own})
    return getattr(topics, s["model"])(num_topics=s["topics"], seed=s["seed"], **arguments), seconds


def _conceptual_words(parts: Parts, train: Corpus, settings: Settings) -> tuple[ConceptualWords, float]:
    from vqbook.topics.code_bags import row_counts, vectors_of
    from vqbook.topics.tvqvae import CONCEPTS as KINDS

    key = json.dumps(settings, sort_keys=True)
    if key not in parts.concepts:
        began = time.process_time()
        kind = KINDS[settings.pop("class", "ConceptualWords")]
        fitted = kind(**settings).fit(vectors_of(train).table, row_counts(train))
        parts.concepts[key] = fitted, time.process_time() - began
    return parts.concepts[key]


def measure(model: Any, parts: Parts, test: Corpus, run: Run) -> tuple[dict[str, float], dict[str, Any]]:
    """The numbers of a fitted model, and its topics.

    Args:
        model: of vqbook.topics.
        parts: the corpus.
        test: its test documents, with the vectors that the model knows.
        run: the run.
    Returns:
        Values by name, and {"words": ten words of each topic, "npmi": of each topic}.
    """
    from vqbook.topics import Cooccurrence, cluster_scores, topic_scores

    n = min(25, len(parts.whole.words))
    top = model.top_ids(n)
    values: dict[str, float] = {}

    def score(prefix: str, ids: np.ndarray, reference: Corpus) -> np.ndarray:
        found = topic_scores(ids, Cooccurrence(reference, ids))
        for metric in SCORES:
            values[f"{prefix}{metric}_all"] = getattr(found, metric)
            values[f"{prefix}{metric}_best"] = getattr(found, f"best_{metric}")
        return found.each_npmi

    if run.held:
        each = score("", top, _seen(parts))
    else:
        each = score("", top, parts.whole)
        score("test_", top, parts.test)
        for ranking in RANKINGS:
            score(f"{ranking}_", model.top_ids(n, ranking=ranking), parts.whole)
        if test.labels is not None:
            found = cluster_scores(model.transform(test), test.labels, seed=run.seed)
            values |= {name: found[name] for name in CLUSTERS}
    words = [" ".join(parts.whole.words[v] for v in row[:10]) for row in top.tolist()]
    return values, {"words": words, "npmi": [round(x, 4) for x in each.tolist()]}


def _train(run: Run, parts: Parts, stem: Path, over: Callable[[], bool], progress: bool) -> None:
    began = time.perf_counter()
    try:
        train, validation, test = split_with_vectors(parts, run.settings)
        model, before = make(parts, train, run.settings)
        fitting = time.process_time()
        model.fit(train, validation, progress=progress)
        seconds = before + time.process_time() - fitting
        values, topics = measure(model, parts, test, run)
        if not all(map(math.isfinite, values.values())):
            raise FloatingPointError("its numbers are not finite")
    except FloatingPointError as error:
        runs.give_up(run, stem, error)
        return
    result = {
        "settings": run.settings,
        "values": values,
        "topics": topics,
        "seconds": seconds,
        "all": time.perf_counter() - began,
    }
    atomic_write(stem.with_name(f"{stem.name}.json"), json.dumps(result).encode())
    scores = ", ".join(f"{metric} {values[f'{metric}_all']:.3f}" for metric in SCORES)
    print(f"{run.words}: {scores}, {seconds:.0f} s", flush=True)


def _expected(run: Run, folder: Path) -> float:
    """Seconds, by the clock, of the longest finished run of the same model."""
    files = folder.glob(f"seed-*/{run.row}_*.json")
    return max((json.loads(file.read_text()).get("all", 0.0) for file in files), default=0.0)


WORK = runs.Work(prepare, prepare, _train, _expected)


def values_of(results: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, float]:
    """The numbers of one seed, by the names that they have in the ledger: `<row>_k<K>_<metric>`, and
    `<row>_mean_<metric>` over the topic counts.
    """
    values: dict[str, float] = {}
    for run, result in results:
        numbers = {**result["values"], "seconds": result["seconds"]}
        values |= {f"{run.name}_{metric}": number for metric, number in numbers.items()}
    if results[0][0].held:
        return values
    topics = sorted({run.topics for run, _ in results})
    for run, result in results:
        for metric in (*result["values"], "seconds"):
            if mean := means([values], run.row, topics, metric):
                values[f"{run.row}_mean_{metric}"] = mean[0]
    return values


def _topics_of(results: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, Any]:
    """NPMI of each topic; their words for the first seed; the settings of each row."""
    first = results[0][0].seed in (0, TRIAL_SEED)
    kept = ("npmi", "words") if first and not results[0][0].held else ("npmi",)
    history = {run.name: {key: result["topics"][key] for key in kept} for run, result in results}
    return history | {f"{run.row}_settings": tag(run.knobs) for run, _ in results if not run.held}


record = partial(runs.record, values_of=values_of, history_of=_topics_of)


def usable(models: Sequence[str], corpus: Corpus) -> tuple[list[str], str]:
    """The models that can be fitted here, and a sentence about the others ("" when there are none)."""
    reasons: dict[str, list[str]] = {}
    for row in models:
        why = f"{ROWS[row].missing} missing" if ROWS[row].missing else ""
        if ROWS[row].reads and (corpus.texts is None or not corpus.ordered):
            why = "needs running text"
        if why:
            reasons.setdefault(why, []).append(row)
    gone = [row for rows in reasons.values() for row in rows]
    named = [f"{', '.join(ROWS[row].name for row in rows)} ({why})" for why, rows in reasons.items()]
    return [row for row in models if row not in gone], f"Left out: {'; '.join(named)}." if named else ""


def reproduce(
    *,
    corpus: str | None,
    topics: Sequence[int] | None,
    profile: str,
    seeds: Sequence[int],
    models: Sequence[str] = tuple(ROWS),
    trials: bool = False,
    jobs: int = 1,
    minutes: float | None = None,
    out: Path | None = None,
    ledger: bool = False,
) -> Found[Run]:
    """Make the table, or the trials that choose its settings, as far as the time goes, and print it.

    Args:
        corpus: its name, by default the profile's.
        topics: topic counts, by default the profile's; trials have TRIAL_TOPICS.
        profile: smoke, read or full.
        seeds: which seeds.
        models: keys of ROWS.
        trials: the trials instead of the table.
        jobs: how many models are fitted at once, with one thread each.
        minutes: of this slice.
        out: folder for results, by default runs/NAME-CORPUS-PROFILE.
        ledger: record into the book's results, too.
    Returns:
        Found.
    Raises:
        ValueError: unknown model, corpus or profile, or a folder with results of other settings.
    """
    s = sizes(profile, corpus)
    verb = TRIALS if trials else TABLE
    entry = f"{verb}-{s['corpus']}-{profile}"
    counts = sorted(set(topics or s["topics"]))
    chosen, whence = choose(s["corpus"], profile, Ledger()) if not trials else ({}, "")
    planned = partial(plan, s, topics=counts, seeds=seeds, trials=trials, chosen=chosen)
    planned(models=models)  # an unknown model is said before the corpus is read
    parts = prepare(s)
    here, left_out = usable(models, parts.whole)
    wanted, folder = planned(models=here), out or Path("runs") / entry
    if not look(wanted, folder).left:
        print(f"all {len(wanted)} runs are there")
    found = runs.do_all(wanted, folder, WORK, jobs=jobs, minutes=minutes)

    looked = look(planned(models=usable(tuple(ROWS), parts.whole)[0]), folder)
    waiting = {(run.row, run.seed) for run in looked.left}  # a row counts when all of its runs are done
    whole = [(run, result) for run, result in looked.results if (run.row, run.seed) not in waiting]
    looked = Found(whole, [], looked.diverged)
    words = f"{s['corpus']}: {len(parts.train):,} training and {len(parts.validation):,} validation documents"
    words += "" if trials else f", {len(parts.test):,} test documents"
    if looked.results:
        print(f"\n{entry}: {words}")
        if parts.whole.note:
            print(f"note: {parts.whole.note}")
        print(trials_page(looked, parts) if trials else table_page(looked, parts, counts, s["corpus"]))
    print("\n" + "\n".join(sentence for sentence in (left_out, whence and f"{whence}.") if sentence))
    command = f"vqbook reproduce {verb} --corpus {s['corpus']}"
    command += "" if trials else f" --topics {' '.join(map(str, counts))}"
    command += f" --profile {profile}"
    said = (words, parts.whole.note)
    record(looked, folder, book=ledger, name=entry, command=command, profile=profile, words=said)
    runs.say_left(found._replace(diverged=looked.diverged), len(wanted))
    return found


def table_page(found: Found[Run], parts: Parts, topics: Sequence[int], corpus: str) -> str:
    """The tables in Markdown, and what a reader must know of them."""
    seeds = sorted({run.seed for run, _ in found.results})
    values = [values_of([(run, r) for run, r in found.results if run.seed == seed]) for seed in seeds]
    said = CONVENTIONS.format(
        topics=", ".join(map(str, topics)),
        windows="in windows of ten" if parts.whole.ordered else "in whole documents (these are bags)",
        **_sizes(parts),
    )
    pages = {
        "": topics_table(values, topics, corpus),
        said + (f" {PAPERS_OWN[corpus]}" if corpus in PAPERS_OWN else ""): documents_table(values, topics),
        "Quality by the ranking of words:": rankings_table(values, topics),
        "NPMI / diversity / quality, all topics:": counts_table(values, topics, corpus, "all"),
        "NPMI / diversity / quality, best half:": counts_table(values, topics, corpus, "best"),
    }
    return "\n\n".join(f"{head}\n\n{page}" if head else str(page) for head, page in pages.items())


def trials_page(found: Found[Run], parts: Parts) -> str:
    """The trials in Markdown, and how they are measured."""
    trials = [(run.row, run.knobs, result["values"], result["seconds"]) for run, result in found.results]
    return f"{trials_table(trials)}\n\n{TRIED.format(topics=TRIAL_TOPICS, **_sizes(parts))}"


def _sizes(parts: Parts) -> dict[str, int]:
    sizes = {name: len(getattr(parts, name)) for name in ("whole", "train", "validation", "test")}
    return sizes | {"labels": len(set([] if parts.whole.labels is None else parts.whole.labels.tolist()))}

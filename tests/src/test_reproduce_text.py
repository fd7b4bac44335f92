"""The text table: plans, slices, measures and pages, mostly with a model that takes no time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vqbook import cli, reproduce_text, topics
from vqbook.reproduce_text import WORK, Parts, Run, choose, measure, plan, prepare, usable, values_of
from vqbook.results import Ledger
from vqbook.runs import do_all, look
from vqbook.table_text import (
    CLUSTERS,
    PAPER,
    PROFILES,
    RANKINGS,
    ROWS,
    SCORES,
    TRIAL_SEED,
    TRIAL_TOPICS,
    Row,
    counts_table,
    sizes,
    topics_table,
)

OTHERS = tuple(f"{ranking}_" for ranking in RANKINGS)
TRIALS = ({"sharpness": 1.0}, {"sharpness": 9.0})
FAKES = {
    "alpha": Row("Alpha", "Fake", TRIALS),
    "beta": Row("Beta", "Fake", TRIALS, fixed={"shift": [1, 2]}),
}


class Fake:
    """Topics are the commonest words of the first documents, moved on by the seed."""

    fits = 0

    def __init__(
        self, *, num_topics: int, seed: int, sharpness: float = 1.0, shift: tuple[int, ...] = ()
    ) -> None:
        assert isinstance(shift, tuple)
        self.num_topics, self.seed, self.sharpness = num_topics, seed, sharpness

    def fit(self, corpus: Any, validation: Any, *, progress: bool) -> Fake:
        Fake.fits += 1
        counts = corpus.counts[self.seed % 7 : self.seed % 7 + self.num_topics].toarray()
        self.beta = counts * self.sharpness + np.random.default_rng(self.seed).random(counts.shape)
        return self

    def top_ids(self, n: int, ranking: str = "own") -> np.ndarray:
        other = 0 if ranking == "own" else self.beta.sum(0) * len(ranking)
        return np.argsort(-self.beta - other, axis=1)[:, :n]

    def transform(self, corpus: Any) -> np.ndarray:
        theta = corpus.counts @ self.beta.T + 1
        return theta / theta.sum(1, keepdims=True)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VQBOOK_DATA", raising=False)
    monkeypatch.setenv("VQBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two rows of a model that takes no time, and a ledger of their own."""
    monkeypatch.setattr(topics, "Fake", Fake, raising=False)
    real = dict(ROWS)
    ROWS.clear()
    ROWS.update(FAKES)
    monkeypatch.setattr("vqbook.results._folder", lambda: tmp_path / "book")
    Fake.fits = 0
    yield
    ROWS.clear()
    ROWS.update(real)


def runs(**changes: Any) -> list[Run]:
    chosen = {row: ROWS[row].trials[0] for row in ROWS}
    planned = {"topics": [2, 4], "seeds": [0], "models": tuple(ROWS), "trials": False, "chosen": chosen}
    return plan(sizes("smoke"), **{**planned, **changes})


def test_trials_are_as_many_for_every_row_and_use_neither_seed_nor_topic_count_of_the_table() -> None:
    assert {len(row.trials) for row in ROWS.values()} == {1, 4}
    assert [key for key, row in ROWS.items() if len(row.trials) == 1] == ["tvq-vae-release"]
    trials = runs(trials=True, seeds=range(3))
    assert len({(run.seed, run.name) for run in trials}) == len(trials)
    assert {run.topics for run in trials} == {TRIAL_TOPICS} and all(run.held for run in trials)
    assert min(run.seed for run in trials) == TRIAL_SEED > 50
    assert all(TRIAL_TOPICS not in profile["topics"] for profile in PROFILES.values())


def test_a_variant_takes_what_its_row_chose_and_makes_no_trials() -> None:
    like = {key: row.like for key, row in ROWS.items() if row.like}
    assert len(like) == 5 and set(like.values()) == {"tvq-vae-w2v"}
    assert not {run.row for run in runs(trials=True)} & set(like)
    best, _ = choose("20ng", "read", Ledger())
    assert all(best[key] == best[other] for key, other in like.items())


def test_names_are_regular_and_settings_survive_a_file() -> None:
    found = runs(seeds=[0, 1])
    assert {"lda_k2", "tvq-vae-w2v_k4"} <= {run.name for run in found}
    assert len({(run.seed, run.name) for run in found}) == len(found) == 2 * 2 * len(ROWS)
    for run in found + runs(trials=True):
        assert reproduce_text.json.loads(reproduce_text.json.dumps(run.settings)) == run.settings


def test_the_table_is_printed_recorded_and_not_made_again(
    fakes: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "tvqvae-text", "--profile", "smoke", "--topics", "4", "2", "--seeds", "2"]
    assert cli.main([*words, "--ledger"]) == 0
    said = capsys.readouterr().out
    for part in (
        "tvqvae-text-lee-smoke: lee: 104 training and 23 validation documents, 23 test documents",
        "| Alpha",
        "best half: NPMI",
        "2 topics |",
        "Mean over 2, 4 topics",
        "counted in windows of ten in all 150 documents",
        "the first of its list, untried here, for Alpha, Beta",
        "recorded tvqvae-text-lee-smoke, seed 0, 1",
    ):
        assert part in said, part
    entry = Ledger(tmp_path / "book").load("tvqvae-text-lee-smoke")
    assert entry[
        "command"
    ] == "vqbook reproduce tvqvae-text --corpus lee --topics 2 4 --profile smoke" and entry[
        "data"
    ].startswith("lee: 104 training")
    values = entry["runs"][1]["values"]
    for row in FAKES:
        for metric in [
            f"{where}{s}_{part}"
            for where in ("", "test_", *OTHERS)
            for s in SCORES
            for part in ("all", "best")
        ]:
            both = [values[f"{row}_k{k}_{metric}"] for k in (2, 4)]
            assert values[f"{row}_mean_{metric}"] == pytest.approx(fmean(both))
    assert len(entry["runs"][0]["history"]["alpha_k4"]["words"][0].split()) == 10
    assert "words" not in entry["runs"][1]["history"]["alpha_k4"]
    fitted = Fake.fits
    assert cli.main(words) == 0
    assert "all 8 runs are there" in capsys.readouterr().out and Fake.fits == fitted == 8


def test_trials_choose_the_settings_of_the_table(
    fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vqbook.reproduce_text.TRIAL_TOPICS", 3)
    words = ["--profile", "smoke", "--ledger"]
    assert cli.main(["reproduce", "tvqvae-text-settings", *words]) == 0
    said = capsys.readouterr().out
    assert "sharpness 9" in said and "a seed that no table uses" in said and "test documents" not in said
    entry = Ledger(tmp_path / "book").load("tvqvae-text-settings-lee-smoke")
    (seed,) = entry["runs"]
    assert seed["seed"] == TRIAL_SEED and entry["command"].endswith("--corpus lee --profile smoke")
    assert not any("test_" in name or "nmi" in name for name in seed["values"] if "npmi" not in name)
    best, whence = choose("lee", "smoke", Ledger())
    for row in FAKES:
        quality = {s: seed["values"][f"{row}_sharpness_{s:g}_quality_all"] for s in (1.0, 9.0)}
        assert best[row]["sharpness"] == max(quality, key=lambda s: quality[s])
    assert "the best of its trials in tvqvae-text-settings-lee-smoke" in whence
    assert cli.main(["reproduce", "tvqvae-text", *words, "--topics", "2"]) == 0
    used = Ledger(tmp_path / "book").load("tvqvae-text-lee-smoke")["runs"][0]["history"]
    assert used["alpha_settings"] == f"sharpness_{best['alpha']['sharpness']:g}"


def test_trials_see_no_test_document(fakes: None) -> None:
    parts = prepare(sizes("smoke"))
    run = runs(trials=True)[0]
    model = Fake(num_topics=5, seed=0).fit(parts.train, None, progress=False)
    values, _ = measure(model, parts, parts.test, run)
    assert set(values) == {f"{s}_{part}" for s in SCORES for part in ("all", "best")}
    unseen = np.setdiff1d(parts.whole.kept, parts.test.kept)
    seen = parts.whole.take(np.isin(parts.whole.kept, unseen))
    assert len(seen) == len(parts.train) + len(parts.validation)
    found = topics.topic_scores(model.top_ids(25), topics.Cooccurrence(seen))
    assert values["npmi_all"] == pytest.approx(found.npmi)
    changed = Parts(parts.whole, parts.train, parts.validation, parts.whole.take([]), {}, {})
    assert measure(model, changed, changed.test, run)[0] == values


def test_measures_are_those_of_the_papers(fakes: None) -> None:
    parts = prepare(sizes("smoke"))
    run = next(run for run in runs() if run.row == "beta" and run.topics == 4)
    labels = np.arange(len(parts.test)) % 3
    test = SimpleNamespace(counts=parts.test.counts, labels=labels)
    model = Fake(num_topics=4, seed=0).fit(parts.train, None, progress=False)
    values, found = measure(model, parts, test, run)  # type: ignore[arg-type]
    whole = topics.topic_scores(model.top_ids(25), topics.Cooccurrence(parts.whole))
    held = topics.topic_scores(model.top_ids(25), topics.Cooccurrence(parts.test))
    assert values["npmi_all"] == pytest.approx(whole.npmi)
    assert values["quality_best"] == pytest.approx(whole.best_npmi * whole.best_diversity)
    assert values["test_quality_all"] == pytest.approx(held.quality)
    assert values["raw_diversity_all"] == pytest.approx(topics.diversity(model.top_ids(25, "raw")))
    assert {name: values[name] for name in CLUSTERS} == topics.cluster_scores(
        model.transform(parts.test), labels, 0
    )
    assert found["npmi"] == pytest.approx(whole.each_npmi, abs=1e-4)


def test_a_slice_begins_no_run_that_would_not_end_in_it(
    fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, fit = 1000.0, Fake.fit
    for clock in ("time", "perf_counter", "process_time"):
        monkeypatch.setattr(time, clock, lambda: now)

    def slow(self: Fake, *arguments: Any, **named: Any) -> Fake:
        nonlocal now
        now += 20 if self.num_topics == 2 else 40
        return fit(self, *arguments, **named)

    monkeypatch.setattr(Fake, "fit", slow)
    done = []
    while len(done) < 4:
        began = now
        found = do_all(runs(), tmp_path, WORK, minutes=1)  # 54 seconds, without the margin
        assert now - began <= 60 and len(found.results) > len(done)
        done = found.results
    assert not found.left and [result["seconds"] for _, result in found.results] == [20, 40, 20, 40]


def test_a_slice_shorter_than_a_run_still_goes_on_by_one(
    fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, fit = 1000.0, Fake.fit
    for clock in ("time", "perf_counter", "process_time"):
        monkeypatch.setattr(time, clock, lambda: now)

    def slow(self: Fake, *arguments: Any, **named: Any) -> Fake:
        nonlocal now
        now += 30
        return fit(self, *arguments, **named)

    monkeypatch.setattr(Fake, "fit", slow)
    for done in (1, 2, 3):
        assert len(do_all(runs(), tmp_path, WORK, minutes=0.4).results) == done


def test_an_interrupted_command_goes_on_and_other_settings_are_refused(
    fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = do_all(runs(), tmp_path / "straight", WORK)
    fit = Fake.fit

    def dies(self: Fake, *arguments: Any, **named: Any) -> Fake:
        if self.num_topics == 4:
            raise KeyboardInterrupt
        return fit(self, *arguments, **named)

    folder = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(Fake, "fit", dies)
        with pytest.raises(KeyboardInterrupt):
            do_all(runs(), folder, WORK)
    assert len(look(runs(), folder).left) == 3
    found = do_all(runs(), folder, WORK)
    assert [r["values"] for _, r in found.results] == [r["values"] for _, r in straight.results]
    other = runs(chosen={row: ROWS[row].trials[1] for row in ROWS})
    with pytest.raises(ValueError, match="other settings"):
        do_all(other, folder, WORK)


def test_numbers_that_are_not_finite_are_said_and_left_out_of_the_means(
    fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(self: Fake, corpus: Any, *arguments: Any, **named: Any) -> Fake:
        raise FloatingPointError("the loss is nan")

    fit = Fake.fit
    monkeypatch.setattr(
        Fake, "fit", lambda self, *a, **k: (breaks if self.num_topics == 4 else fit)(self, *a, **k)
    )
    found = do_all(runs(), tmp_path, WORK)
    assert {run.name for run in found.diverged} == {"alpha_k4", "beta_k4"} and not found.left
    assert "seed 0, Alpha, 4 topics: diverged (the loss is nan)" in capsys.readouterr().out
    values = values_of(found.results)
    assert "alpha_k2_npmi_all" in values
    lines = counts_table([values], [2, 4], "lee", "all").splitlines()
    assert lines[2].split("|")[3].strip() == ""
    assert len(topics_table([values], [2, 4], "lee").splitlines()) == 2


def test_models_that_cannot_be_fitted_here_are_left_out_with_one_sentence(
    fakes: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ROWS, "gamma", Row("Gamma", "Fake", TRIALS, needs=("no_such_package",)))
    monkeypatch.setitem(ROWS, "delta", Row("Delta", "Fake", TRIALS, reads=True))
    bags = SimpleNamespace(texts=None, ordered=False)
    kept, sentence = usable(tuple(ROWS), bags)  # type: ignore[arg-type]
    assert kept == ["alpha", "beta"]
    assert sentence == "Left out: Gamma (no_such_package missing); Delta (needs running text)."
    words = ["reproduce", "tvqvae-text", "--profile", "smoke", "--topics", "2", "--ledger"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "Left out: Gamma (no_such_package missing)." in said and "recorded" in said and "Delta" in said


def test_the_authors_numbers_stand_beside_ours_and_their_arithmetic_holds() -> None:
    means = {"20ng": [(0.1878, 0.8683, 0.1636), (0.1892, 0.8615, 0.1638)], "nyt": [(0.1882, 0.9812, 0.1846)]}
    for corpus, expected in means.items():
        for theirs, mean in zip(PAPER[corpus].values(), expected, strict=False):
            for i in range(3):
                assert fmean(row[i] for row in theirs.values()) == pytest.approx(mean[i], abs=1e-4)
            assert all(abs(npmi * spread - q) < 1.1e-4 for npmi, spread, q in theirs.values())
    page = topics_table([], [10, 20, 30, 40, 50], "20ng")
    assert "authors' release, alpha_hidden=1" in page and "0.188" in page and "0.164" in page
    assert "authors" not in topics_table([], [10, 60], "20ng") and "authors" not in topics_table(
        [], [10], "ap"
    )
    assert "0.197 / 0.896 / 0.177" in counts_table([], [20], "20ng", "best")
    assert "authors" not in counts_table([], [20], "20ng", "all")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "plsa"], "no model 'plsa': the models are lda, prodlda, "),
        (["--corpus", "reuters"], "corpus must be one of 20ng, nyt, agnews, ap, lee, bars, got 'reuters'"),
        (["--topics", "1"], "topics must be numbers from 2, got [1]"),
    ],
)
def test_unknown_names_are_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "tvqvae-text", "--profile", "smoke", *words]) == 1
    assert said in capsys.readouterr().err


def test_word_vectors_are_learned_from_no_test_document() -> None:
    parts = prepare(sizes("smoke"))
    s = {**sizes("smoke"), "vectors": "word2vec", "seed": 3}
    train, _, test = reproduce_text.split_with_vectors(parts, s)
    assert train.vectors is not None and test.vectors is not None
    assert np.array_equal(train.vectors.table, test.vectors.table)
    unknown = ~np.isin(test.tokens, reproduce_text._seen(parts).tokens)
    assert unknown.any() and np.array_equal(test.vectors.rows < 0, unknown)
    again, *_ = reproduce_text.split_with_vectors(parts, s)
    assert again is train
    other, *_ = reproduce_text.split_with_vectors(parts, {**s, "seed": 4})
    assert other.vectors is not None and not np.array_equal(other.vectors.table, train.vectors.table)
    assert len(parts.with_vectors) == 1


QUICK = ("lda", "prodlda", "etm", "tvq-vae-w2v", "tvq-vae-linear", "tvq-vae-soft")


def test_real_models_make_the_table_and_two_jobs_give_what_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vqbook.results._folder", lambda: tmp_path / "book")
    words = ["reproduce", "tvqvae-text", "--profile", "smoke", "--models", *QUICK]
    assert cli.main([*words, "--out", "one"]) == 0
    said = capfd.readouterr().out
    assert all(f"| {ROWS[row].name} " in said for row in QUICK) and "held-out NPMI" in said
    assert cli.main([*words, "--out", "two", "--jobs", "2"]) == 0
    wanted = [run for run in runs(topics=PROFILES["smoke"]["topics"]) if run.row in QUICK]
    one, two = (look(wanted, Path(folder)) for folder in ("one", "two"))
    assert not one.left and not two.left and not one.diverged
    assert [r["values"] for _, r in one.results] == [r["values"] for _, r in two.results]


def test_every_trial_of_every_row_is_a_model_that_can_be_made() -> None:
    parts = prepare(sizes("smoke"))
    for run in runs(trials=True) + runs(models=["tvq-vae-release"]):
        s = {**run.settings, "vectors": run.settings["vectors"] and "word2vec"}
        train, *_ = reproduce_text.split_with_vectors(parts, s)
        model, _ = reproduce_text.make(parts, train, s)
        assert model.num_topics == run.topics and model.seed == run.seed

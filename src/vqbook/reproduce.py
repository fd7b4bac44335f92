"""Table 1 of the GM-VQ paper on one code base, run by run.

Every (row, seed) is a run of its own, with its own checkpoint and result file. Any number of processes may work on one
folder: each takes a run that nobody else holds. So the same command goes on after an interruption, and slices of a few
minutes add up to a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from vqbook import data, runs
from vqbook.experiments import images, train_once
from vqbook.remedies import split
from vqbook.results import Ledger, Table
from vqbook.runs import Found, Stopped, look, tag
from vqbook.table1 import (
    CONVENTIONS,
    METRICS,
    PAPER,
    PAPERS_OWN,
    ROWS,
    Knobs,
    Settings,
    build,
    markdown,
    sizes,
    table,
)

TABLE, SETTINGS = "gmvq-table1", "gmvq-table1-settings"  # names in the ledger, before data set and profile


class Run(NamedTuple):
    """One model to train and measure.

    Attributes:
        name: of its files, and of its numbers in the ledger.
        row: a key of ROWS.
        seed: of weights and batches.
        knobs: what the row leaves open.
        settings: all that the result depends on.
        held: measure on held-out training images, not on the test set.
    """

    name: str
    row: str
    seed: int
    knobs: Knobs
    settings: Settings
    held: bool

    @property
    def words(self) -> str:
        """As a person calls it."""
        return f"seed {self.seed}, {ROWS[self.row].name}" + (f" ({tag(self.knobs)})" if self.held else "")


def plan(
    s: Settings, *, seeds: Sequence[int], rows: Sequence[str], trials: bool, chosen: Mapping[str, Knobs]
) -> list[Run]:
    """All runs of a table, or of the trials that choose its settings.

    Args:
        s: from `sizes`.
        seeds: which seeds.
        rows: keys of ROWS, in any order.
        trials: try everything that a row leaves open in shorter runs, instead of training with what was chosen.
        chosen: knobs of each row, for the table.
    Raises:
        ValueError: an unknown row.
    """
    if unknown := [row for row in rows if row not in ROWS]:
        raise ValueError(f"no row {', '.join(map(repr, unknown))}: the rows are {', '.join(ROWS)}")
    s = {**s, "steps": s["trial_steps"]} if trials else s
    return [
        Run(
            f"{row}_{tag(knobs)}" if trials else row,
            row,
            seed,
            knobs,
            {**s, **knobs, "row": row, "seed": seed},
            trials,
        )
        for seed in seeds
        for row in ROWS
        if row in rows
        for knobs in (ROWS[row].trials if trials else [chosen[row]])
    ]


def choose(name: str, profile: str, ledger: Ledger) -> tuple[dict[str, Knobs], str]:
    """For each row the trial with the smallest error on held-out images, as the ledger has it.

    Args:
        name: data set.
        profile: smoke, read or full.
        ledger: where the trials are. Those of CIFAR-10 at read stand in for trials that were not made, and a row's
            first trial where there are none at all.
    Returns:
        ({row: knobs}, where they come from, in words).
    """
    rows = {key: (row.name, row.trials) for key, row in ROWS.items()}
    sources = [f"{SETTINGS}-{which}" for which in (f"{name}-{profile}", "cifar10-read")]
    return runs.choose(rows, sources, ledger, lambda values, trial: values.get(f"{trial}_mse", math.inf))


def _train(
    run: Run,
    sets: tuple[Tensor, Tensor, data.ImageSet],
    stem: Path,
    over: Callable[[], bool],
    progress: bool,
) -> None:
    train, held, test = sets
    loss = ROWS[run.row].loss(run.knobs)

    def until(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if over():
            raise Stopped
        return loss(model, x)

    s = run.settings
    try:
        result = train_once(
            lambda: (build(run.row, s, train, run.seed, run.knobs), until),
            s,
            train,
            held if run.held else test.x,
            stem=stem,
            save_every=s["save_every"],
            log_every=max(1, s["steps"] // 50),
            progress=progress,
        )
    except (FloatingPointError, ValueError) as error:
        if isinstance(error, ValueError) and "finite" not in str(error):
            raise
        runs.give_up(run, stem, error)
    else:
        v = result["values"]
        numbers = f"MSE {v['mse']:.5f}, perplexity {v['perplexity']:.1f}"
        print(f"{run.words}: {numbers}, {result['seconds']:.0f} s", flush=True)
    stem.with_name(f"{stem.name}.safetensors").unlink(missing_ok=True)  # it was there to go on from


WORK = runs.Work(images, split, _train)
train_all = partial(runs.do_all, work=WORK)


def values_of(results: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, float]:
    """The numbers of one seed, by the names that they have in the ledger."""
    values: dict[str, float] = {}
    for run, result in results:
        values |= {f"{run.name}_{metric}": result["values"][metric] for metric in METRICS}
        if not run.held:
            values |= {f"{run.name}_{knob}": value for knob, value in run.knobs.items()}
        values["tokens"] = result["values"]["tokens"]
    return values


def _curves(results: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, Any] | None:
    if results[0][0].held:
        return None
    return {run.name: {key: r["history"][key] for key in ("step", "terms")} for run, r in results}


record = partial(runs.record, values_of=values_of, history_of=_curves)


def trials_table(results: Sequence[tuple[Run, dict[str, Any]]]) -> Table:
    """All trials in Markdown, measured on held-out training images; the best of a row is marked."""
    best = {
        row: min(r["values"]["mse"] for run, r in results if run.row == row)
        for row in {run.row for run, _ in results}
    }
    lines = [["", "tried", "MSE / 10⁻³", "perplexity", "best"]]
    for run, result in results:
        v = result["values"]
        tried = ", ".join(f"{knob} {value:.3g}" for knob, value in run.knobs.items())
        mark = "*" if v["mse"] == best[run.row] else ""
        lines.append([ROWS[run.row].name, tried, f"{1000 * v['mse']:.2f}", f"{v['perplexity']:.1f}", mark])
    return markdown(lines)


def reproduce(
    *,
    name: str | None,
    profile: str,
    seeds: Sequence[int],
    rows: Sequence[str] = tuple(ROWS),
    trials: bool = False,
    jobs: int = 1,
    minutes: float | None = None,
    out: Path | None = None,
    ledger: bool = False,
    steps: int | None = None,
) -> Found[Run]:
    """Make the table, or the trials that choose its settings, as far as the time goes, and print it.

    Args:
        name: data set, by default the profile's.
        profile: smoke, read or full.
        seeds: which seeds.
        rows: keys of ROWS.
        trials: the trials instead of the table.
        jobs: how many models are trained at once.
        minutes: of this slice.
        out: folder for results, by default runs/NAME-DATA-PROFILE.
        ledger: record into the book's results, too.
        steps: of a run, in the place of the profile's; the entry gets a name of its own, and the rows asked for are
            the table.
    Returns:
        Found.
    Raises:
        ValueError: unknown row, data set or profile, or a folder with results of other settings.
    """
    s = sizes(profile, name)
    verb = SETTINGS if trials else TABLE
    entry = f"{verb}-{s['data']}-{profile}" + (f"-{steps}-steps" if steps else "")
    s = {**s, "trial_steps" if trials else "steps": steps} if steps else s
    chosen, whence = choose(s["data"], profile, Ledger()) if not trials else ({}, "")
    wanted = plan(s, seeds=seeds, rows=rows, trials=trials, chosen=chosen)
    folder = out or Path("runs") / entry
    if not look(wanted, folder).left:
        print(f"all {len(wanted)} runs are there")
    found = train_all(wanted, folder, jobs=jobs, minutes=minutes)

    train, test = images(s)
    whole = plan(s, seeds=seeds, rows=rows if steps else tuple(ROWS), trials=trials, chosen=chosen)
    looked = look(whole, folder)
    if trials:  # a row counts when all of its trials are done
        waiting = {run.row for run in looked.left}
        looked = Found([(run, r) for run, r in looked.results if run.row not in waiting], [], looked.diverged)
    counted = s["n_held"] if trials else len(test)
    measured = "other training" if trials else "test"
    words = f"{train.name}: {len(train) - s['n_held']:,} training and {counted:,} {measured} images"
    if looked.results:
        print(f"\n{entry}: {words}")
        if train.note:
            print(f"note: {train.note}")
        if trials:
            print(trials_table(looked.results))
        else:
            by_seed = [[(run, r) for run, r in looked.results if run.seed == seed] for seed in seeds]
            print(table([values_of(results) for results in by_seed], s["data"]))
            tokens = int(looked.results[0][1]["values"]["tokens"])
            print(f"\n{CONVENTIONS.format(tokens=tokens, images=counted, steps=s['steps'])}\n{whence}.")
            if s["data"] in PAPER:
                print(PAPERS_OWN)
    command = f"vqbook reproduce {verb} --data {s['data']} --profile {profile}"
    command += f" --steps {steps} --rows {' '.join(rows)}" if steps else ""
    said = (words, train.note)
    record(looked, folder, book=ledger, name=entry, command=command, profile=profile, words=said)
    runs.say_left(found._replace(diverged=looked.diverged), len(wanted))
    return found

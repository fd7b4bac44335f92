"""Table 1 of the GM-VQ paper on one code base, run by run.

Every (row, seed) is a run of its own, with its own checkpoint and result file. Any number of processes may work on one
folder: each takes a run that nobody else holds. So the same command goes on after an interruption, and slices of a few
minutes add up to a table.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vqbook import data
from vqbook.experiments import device_words, finished, images, train_once
from vqbook.remedies import split
from vqbook.results import Ledger, Table, atomic_write
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
from vqbook.train import pick_device

TABLE, SETTINGS = "gmvq-table1", "gmvq-table1-settings"  # names in the ledger, before data set and profile
MARGIN = 20.0  # seconds of a slice that are left for measuring and for coming to an end


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
        return f"seed {self.seed}, {ROWS[self.row].name}" + (f" ({_tag(self.knobs)})" if self.held else "")


def _tag(knobs: Knobs) -> str:
    return "_".join(f"{knob}_{value:g}" for knob, value in knobs.items())


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
            f"{row}_{_tag(knobs)}" if trials else row,
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
    sources = dict.fromkeys(f"{SETTINGS}-{which}" for which in (f"{name}-{profile}", "cifar10-read"))
    entries = [ledger.load(source) for source in sources if source in ledger.names()]
    best = {key: row.trials[0] for key, row in ROWS.items()}
    used = {}
    for key, row in ROWS.items():
        for entry in entries:
            errors = [_error(entry, f"{key}_{_tag(knobs)}_mse") for knobs in row.trials]
            if min(errors) < math.inf:
                best[key] = row.trials[errors.index(min(errors))]
                used[key] = entry["name"]
                break
    whence = f"the best of its trials in {' and '.join(dict.fromkeys(used.values()))}" if used else ""
    untried = ", ".join(ROWS[key].name for key in ROWS if key not in used)
    rest = f"the first of its list, untried here, for {untried}" if untried else ""
    return best, f"Settings of each row: {'; '.join(filter(None, (whence, rest)))}"


def _error(entry: dict[str, Any], metric: str) -> float:
    """Mean over runs; infinite where a run diverged or was not made."""
    return fmean(run["values"].get(metric, math.inf) for run in entry["runs"])


class Stopped(Exception):
    """The slice is over."""


def work(runs: Sequence[Run], folder: Path, deadline: float, progress: bool = False) -> None:
    """Train what is not finished and what no other process holds, until the deadline.

    On the CPU with one thread, so that results do not depend on how many processes work.

    Args:
        runs: in this order.
        folder: where results and checkpoints are.
        deadline: seconds, as time.time() counts.
        progress: show a bar for each run.
    """
    parent, threads = multiprocessing.parent_process(), torch.get_num_threads()

    def over() -> bool:
        return time.time() >= deadline or (parent is not None and not parent.is_alive())

    sets: tuple[Tensor, Tensor, data.ImageSet] | None = None
    if pick_device().type == "cpu":
        torch.set_num_threads(1)
    try:
        for run in runs:
            if over():
                break
            with _alone(_stem(run, folder)) as mine:
                if not mine or finished(_stem(run, folder), run.settings):
                    continue
                sets = sets or split(run.settings)
                _train(run, sets, folder, over, progress)
    except (Stopped, KeyboardInterrupt):
        if parent is None:  # a worker leaves the word to the process that started it
            raise
    finally:
        torch.set_num_threads(threads)


def _train(
    run: Run,
    sets: tuple[Tensor, Tensor, data.ImageSet],
    folder: Path,
    over: Callable[[], bool],
    progress: bool,
) -> None:
    train, held, test = sets
    loss = ROWS[run.row].loss(run.knobs)

    def until(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if over():
            raise Stopped
        return loss(model, x)

    s, stem = run.settings, _stem(run, folder)
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
        atomic_write(
            stem.with_name(f"{stem.name}.json"), json.dumps(dict(settings=s, diverged=str(error))).encode()
        )
        print(f"{run.words}: diverged ({error})", flush=True)
    else:
        v = result["values"]
        numbers = f"MSE {v['mse']:.5f}, perplexity {v['perplexity']:.1f}"
        print(f"{run.words}: {numbers}, {result['seconds']:.0f} s", flush=True)
    stem.with_name(f"{stem.name}.safetensors").unlink(missing_ok=True)  # it was there to go on from


def _stem(run: Run, folder: Path) -> Path:
    return folder / f"seed-{run.seed}" / run.name


@contextlib.contextmanager
def _alone(stem: Path) -> Iterator[bool]:
    """Hold a run; False if another process holds it (where the system can lock: not on Windows)."""
    try:
        import fcntl
    except ImportError:
        yield True
        return
    stem.parent.mkdir(parents=True, exist_ok=True)
    with open(stem.with_name(f".{stem.name}.lock"), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True  # closing the file, or the end of the process, lets go


class Found(NamedTuple):
    """What a folder holds.

    Attributes:
        results: finished runs.
        left: runs that are not finished.
        diverged: runs whose loss did not stay finite; they are not tried again.
    """

    results: list[tuple[Run, dict[str, Any]]]
    left: list[Run]
    diverged: list[Run]


def look(runs: Sequence[Run], folder: Path) -> Found:
    """Sort runs into finished and not.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    found = Found([], [], [])
    for run in runs:
        result = finished(_stem(run, folder), run.settings)
        if result is None:
            found.left.append(run)
        elif math.isfinite(result.get("values", {}).get("mse", math.nan)):
            found.results.append((run, result))
        else:
            found.diverged.append(run)
    return found


def train_all(runs: Sequence[Run], folder: Path, *, jobs: int = 1, minutes: float | None = None) -> Found:
    """Work on the runs with several processes; stop before the time is over.

    Args:
        runs: from `plan`.
        folder: where results and checkpoints are; other commands may be at work in it.
        jobs: how many models are trained at once, on one device.
        minutes: of this slice; None goes on to the end.
    Returns:
        Found.
    Raises:
        ValueError: the folder holds results of other settings.
        ChildProcessError: a worker died.
    """
    seconds = math.inf if minutes is None else 60 * minutes
    deadline = time.time() + seconds - min(MARGIN, seconds / 10 if minutes else 0)
    left = look(runs, folder).left
    if left and jobs == 1:
        with contextlib.suppress(Stopped):
            work(left, folder, deadline, progress=True)
    elif left:
        images(left[0].settings)  # so that a worker finds the data, or nobody is sent to look for it
        spawn = multiprocessing.get_context("spawn")
        workers = [
            spawn.Process(target=work, args=(left, folder, deadline)) for _ in range(min(jobs, len(left)))
        ]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.terminate()
        if died := [worker.exitcode for worker in workers if worker.exitcode]:
            raise ChildProcessError(
                f"{len(died)} of {len(workers)} workers died (exit code {died[0]}); what is finished is kept. "
                "If memory ran out, use fewer --jobs"
            )
    return look(runs, folder)


def values_of(results: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, float]:
    """The numbers of one seed, by the names that they have in the ledger."""
    values: dict[str, float] = {}
    for run, result in results:
        values |= {f"{run.name}_{metric}": result["values"][metric] for metric in METRICS}
        if not run.held:
            values |= {f"{run.name}_{knob}": value for knob, value in run.knobs.items()}
        values["tokens"] = result["values"]["tokens"]
    return values


def record(
    found: Found, ledgers: Sequence[Ledger], *, name: str, command: str, profile: str, words: tuple[str, str]
) -> list[int]:
    """Write each seed of which nothing is left into the ledgers.

    Args:
        found: of a whole table.
        ledgers: where to.
        name: of the entry.
        command: that makes it again.
        profile: smoke, read or full.
        words: the data set, and what a reader must know.
    Returns:
        The seeds that were written.
    """
    seeds = sorted({run.seed for run, _ in found.results} - {run.seed for run in found.left})
    for seed in seeds:
        results = [(run, result) for run, result in found.results if run.seed == seed]
        for ledger in ledgers:
            ledger.record(
                name,
                values=values_of(results),
                command=command,
                data=words[0],
                note=words[1],
                profile=profile,
                seed=seed,
                device=device_words(pick_device()),
                seconds=sum(result["seconds"] for _, result in results),
                history=None
                if results[0][0].held
                else {run.name: {key: r["history"][key] for key in ("step", "terms")} for run, r in results},
            )
    return seeds


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
) -> Found:
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
    Returns:
        Found.
    Raises:
        ValueError: unknown row, data set or profile, or a folder with results of other settings.
    """
    s = sizes(profile, name)
    verb = SETTINGS if trials else TABLE
    entry = f"{verb}-{s['data']}-{profile}"
    chosen, whence = choose(s["data"], profile, Ledger()) if not trials else ({}, "")
    wanted = plan(s, seeds=seeds, rows=rows, trials=trials, chosen=chosen)
    folder = out or Path("runs") / entry
    if not look(wanted, folder).left:
        print(f"all {len(wanted)} runs are there")
    found = train_all(wanted, folder, jobs=jobs, minutes=minutes)

    train, test = images(s)
    whole = plan(s, seeds=seeds, rows=tuple(ROWS), trials=trials, chosen=chosen)
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
    ledgers = [Ledger(folder), *([Ledger()] if ledger else [])]
    done = record(looked, ledgers, name=entry, command=command, profile=profile, words=(words, train.note))
    if done and ledger:
        print(f"recorded {entry}, seed {', '.join(map(str, done))}, in {Ledger().folder}")
    if looked.diverged:
        print("diverged: " + "; ".join(run.words for run in looked.diverged))
    if found.left:
        few = "; ".join(run.words for run in found.left[:4]) + (" ..." if len(found.left) > 4 else "")
        print(f"{len(found.results)} of {len(wanted)} runs are done; the same command goes on with: {few}")
    return found

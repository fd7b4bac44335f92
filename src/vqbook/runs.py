"""The runs of a table: taken one by one by any number of processes, kept as they end, looked up afterwards."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch

from vqbook.experiments import device_words, finished
from vqbook.results import Ledger, atomic_write
from vqbook.train import pick_device

MARGIN = 20.0  # seconds of a slice that are left for measuring and for coming to an end
Settings = dict[str, Any]
K = TypeVar("K", bound=Mapping[str, Any])


class AnyRun(Protocol):
    """One model to train and measure: the name of its files, its seed, all that its result depends on, and words."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def words(self) -> str: ...


R = TypeVar("R", bound=AnyRun)


class Stopped(Exception):
    """The slice is over."""


class Found(NamedTuple, Generic[R]):
    """What a folder holds.

    Attributes:
        results: finished runs.
        left: runs that are not finished.
        diverged: runs whose numbers did not stay finite; they are not tried again.
    """

    results: list[tuple[R, dict[str, Any]]]
    left: list[R]
    diverged: list[R]


def no_time(run: AnyRun, folder: Path) -> float:
    """For runs that can be left at any moment: nothing is lost by beginning."""
    return 0.0


class Work(NamedTuple):
    """How runs are done. All are functions of a module, because processes are told their names.

    Attributes:
        fetch: settings -> anything; called before there are several processes, so that they find the data.
        prepare: settings -> what all runs share; called once in a process, before its first run.
        train: (run, what they share, stem of its files, whether the slice is over, show a bar) -> None; leaves
            <stem>.json with "settings", "values" and "seconds".
        expected: (run, folder) -> seconds that a run is known to take. A process begins none that would not end in
            its slice, its first excepted. For runs without checkpoints.
    """

    fetch: Callable[[Settings], Any]
    prepare: Callable[[Settings], Any]
    train: Callable[[Any, Any, Path, Callable[[], bool], bool], None]
    expected: Callable[[Any, Path], float] = no_time


def tag(knobs: Mapping[str, Any]) -> str:
    """Knobs as a part of a name."""
    return "_".join(f"{knob}_{v}" if isinstance(v, str) else f"{knob}_{v:g}" for knob, v in knobs.items())


def stem_of(run: AnyRun, folder: Path) -> Path:
    """Where a run's files are, without their endings."""
    return folder / f"seed-{run.seed}" / run.name


@contextlib.contextmanager
def alone(stem: Path) -> Iterator[bool]:
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


def look(runs: Sequence[R], folder: Path) -> Found[R]:
    """Sort runs into finished and not.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    found: Found[R] = Found([], [], [])
    for run in runs:
        result = finished(stem_of(run, folder), run.settings)
        if result is None:
            found.left.append(run)
        elif (values := result.get("values")) and all(map(math.isfinite, values.values())):
            found.results.append((run, result))
        else:
            found.diverged.append(run)
    return found


def give_up(run: AnyRun, stem: Path, error: Exception) -> None:
    """Keep, and say, that a run diverged."""
    result = {"settings": run.settings, "diverged": str(error)}
    atomic_write(stem.with_name(f"{stem.name}.json"), json.dumps(result).encode())
    print(f"{run.words}: diverged ({error})", flush=True)


def in_turn(
    runs: Sequence[AnyRun], folder: Path, deadline: float, work: Work, *, progress: bool = False
) -> None:
    """Train what is not finished and what no other process holds, until the deadline.

    On the CPU with one thread, so that results do not depend on how many processes work.

    Args:
        runs: in this order.
        folder: where results and checkpoints are.
        deadline: seconds, as time.time() counts.
        work: how a run is done.
        progress: show a bar for each run.
    """
    parent, threads = multiprocessing.parent_process(), torch.get_num_threads()

    def over() -> bool:
        return time.time() >= deadline or (parent is not None and not parent.is_alive())

    shared: Any = None
    if pick_device().type == "cpu":
        torch.set_num_threads(1)
    try:
        for run in runs:
            if over():
                break
            stem = stem_of(run, folder)
            with alone(stem) as mine:
                if not mine or finished(stem, run.settings):
                    continue
                if shared is not None and work.expected(run, folder) > deadline - time.time():
                    continue
                shared = work.prepare(run.settings) if shared is None else shared
                work.train(run, shared, stem, over, progress)
    except (Stopped, KeyboardInterrupt):
        if parent is None:  # a worker leaves the word to the process that started it
            raise
    finally:
        torch.set_num_threads(threads)


def do_all(
    runs: Sequence[R], folder: Path, work: Work, *, jobs: int = 1, minutes: float | None = None
) -> Found[R]:
    """Work on the runs with several processes; stop before the time is over.

    Args:
        runs: in this order.
        folder: where results and checkpoints are; other commands may be at work in it.
        work: how a run is done.
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
            in_turn(left, folder, deadline, work, progress=True)
    elif left:
        work.fetch(left[0].settings)  # so that a worker finds the data, or nobody is sent to look for it
        spawn = multiprocessing.get_context("spawn")
        workers = [
            spawn.Process(target=in_turn, args=(left, folder, deadline, work))
            for _ in range(min(jobs, len(left)))
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


def choose(
    rows: Mapping[str, tuple[str, Sequence[K]]],
    sources: Sequence[str],
    ledger: Ledger,
    cost: Callable[[Mapping[str, float], str], float],
) -> tuple[dict[str, K], str]:
    """For each row the trial of least cost, as the ledger has it.

    Args:
        rows: {row: (its name on the page, its trials)}.
        sources: entries of the ledger; a later one stands in for trials that an earlier one does not have, and a
            row's first trial where there are none at all.
        ledger: where the trials are.
        cost: (values of a seed, name of a trial) -> its cost, infinite where it diverged or was not made.
    Returns:
        ({row: knobs}, where they come from, in words).
    """
    entries = [ledger.load(source) for source in dict.fromkeys(sources) if source in ledger.names()]
    best = {row: trials[0] for row, (_, trials) in rows.items()}
    used = {}
    for row, (_, trials) in rows.items():
        for entry in entries:
            costs = [
                fmean(cost(seed["values"], f"{row}_{tag(knobs)}") for seed in entry["runs"])
                for knobs in trials
            ]
            if min(costs) < math.inf:
                best[row] = trials[costs.index(min(costs))]
                used[row] = entry["name"]
                break
    whence = f"the best of its trials in {' and '.join(dict.fromkeys(used.values()))}" if used else ""
    untried = ", ".join(name for row, (name, _) in rows.items() if row not in used)
    rest = f"the first of its list, untried here, for {untried}" if untried else ""
    return best, f"Settings of each row: {'; '.join(filter(None, (whence, rest)))}"


def record(
    found: Found[R],
    folder: Path,
    *,
    book: bool,
    name: str,
    command: str,
    profile: str,
    words: tuple[str, str],
    values_of: Callable[[list[tuple[R, dict[str, Any]]]], dict[str, float]],
    history_of: Callable[[list[tuple[R, dict[str, Any]]]], dict[str, Any] | None],
) -> list[int]:
    """Write each seed of which nothing is left into the folder's ledger, and into the book's when asked; say so.

    Args:
        found: of a whole table.
        folder: where its runs are.
        book: whether the book's ledger gets them, too.
        name: of the entry.
        command: that makes it again.
        profile: smoke, read or full.
        words: the data set, and what a reader must know.
        values_of: the numbers of one seed, by the names that they have in the ledger.
        history_of: what else is kept of one seed.
    Returns:
        The seeds that were written.
    """
    seeds = sorted({run.seed for run, _ in found.results} - {run.seed for run in found.left})
    for seed in seeds:
        results = [(run, result) for run, result in found.results if run.seed == seed]
        kept = dict(
            values=values_of(results),
            command=command,
            data=words[0],
            note=words[1],
            profile=profile,
            seed=seed,
            device=device_words(pick_device()),
            seconds=sum(result["seconds"] for _, result in results),
            history=history_of(results),
        )
        for ledger in (Ledger(folder), Ledger()) if book else (Ledger(folder),):
            ledger.record(name, **kept)
    if seeds and book:
        print(f"recorded {name}, seed {', '.join(map(str, seeds))}, in {Ledger().folder}")
    return seeds


def say_left(found: Found[R], total: int) -> None:
    """Print what diverged and what the same command goes on with."""
    if found.diverged:
        print("diverged: " + "; ".join(run.words for run in found.diverged))
    if found.left:
        few = "; ".join(run.words for run in found.left[:4]) + (" ..." if len(found.left) > 4 else "")
        print(f"{len(found.results)} of {total} runs are done; the same command goes on with: {few}")

"""The ledger: published numbers with their provenance, one JSON file an experiment."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def atomic_write(path: Path, content: bytes) -> None:
    """Replace a file in one step: after a crash or on a full disk it holds the old bytes or the new, never a
    part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Table(str):
    """Markdown text that a notebook shows as a table."""

    def _repr_markdown_(self) -> str:
        return str(self)


def _folder() -> Path:
    here = Path(__file__).resolve()
    checkout = here.parents[2] / "book" / "results"
    return checkout if checkout.is_dir() else here.parent / "_results"


class Ledger:
    """Numbers that the book prints, with seed, device, minutes and data set beside them.

    Each experiment is `<name>.json`: name, command, data, note, profile, and `runs`, one a seed, each with
    seed, device, seconds, versions, values and (if given) history.

    Args:
        folder: where the files are; by default book/results of the checkout, else the copy that ships in the
            package.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else _folder()

    def record(
        self,
        name: str,
        *,
        values: dict[str, Any],
        command: str,
        data: str,
        note: str,
        profile: str,
        seed: int,
        device: str,
        seconds: float,
        history: dict[str, Any] | None = None,
    ) -> Path:
        """Put one run into the ledger, in place of an earlier run with the same seed.

        Runs of another command, data set or profile under the same name are dropped: a mean over them and
        this one would mean nothing.

        Args:
            name: the experiment, letters, digits, `-`, `_`, `.`.
            values: the numbers by name, finite; curves go into history.
            command: what to type to make this run again, without the seed.
            data: the data set, in words.
            note: what a reader must know before comparing, "" if nothing.
            profile: smoke, read or full.
            seed: of this run.
            device: what it ran on.
            seconds: wall-clock time.
            history: curves, as History.as_dict gives them.
        Returns:
            The file written.
        Raises:
            ValueError: a bad name, or values that are not finite numbers.
        """
        path = self._path(name)
        _check_numbers(name, values)
        run: dict[str, Any] = {
            "seed": int(seed),
            "device": device,
            "seconds": round(float(seconds), 1),
            "versions": {package: _version(package) for package in ("vqbook", "torch")},
            "values": values,
        }
        if history is not None:
            run["history"] = history
        head = {"name": name, "command": command, "data": data, "note": note, "profile": profile}
        with _locked(self.folder):
            runs: list[dict[str, Any]] = []
            if path.exists():
                old = self.load(name)
                if all(old[key] == head[key] for key in ("command", "data", "profile")):
                    runs = [r for r in old["runs"] if r["seed"] != run["seed"]]
            runs = sorted([*runs, run], key=lambda r: r["seed"])
            text = json.dumps({**head, "runs": runs}, indent=1, allow_nan=False, ensure_ascii=False)
            atomic_write(path, (_compact_lists(text) + "\n").encode())
        return path

    def load(self, name: str) -> dict[str, Any]:
        """The whole file of one experiment."""
        path = self._path(name)
        if not path.exists():
            raise ValueError(f"the ledger has no {name!r}; it has {', '.join(self.names()) or 'nothing yet'}")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path} is not JSON ({error}): restore it from git or record it again"
            ) from None

    def names(self) -> list[str]:
        """All experiments, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def values(self, name: str, metric: str) -> list[float]:
        """One metric of all runs that have it, in order of seed; a row of a table may have fewer seeds than another."""
        runs = self.load(name)["runs"]
        values = [run["values"][metric] for run in runs if metric in run["values"]]
        if not values:
            known = list(runs[0]["values"])
            if len(known) > 20:  # a table's entry has hundreds
                known = [*difflib.get_close_matches(metric, known, n=5, cutoff=0), "..."]
            raise ValueError(f"{name!r} has no {metric!r}; it has {', '.join(known)}")
        return values

    def mean(self, name: str, metric: str) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values(name, metric))

    def spread(self, name: str, metric: str) -> float:
        """Sample standard deviation over seeds, of at least two runs."""
        found = self.values(name, metric)
        if len(found) < 2:
            raise ValueError(f"{name!r} has one run: a spread needs at least two")
        return statistics.stdev(found)

    def table(self, names: Sequence[str], metrics: Sequence[str]) -> Table:
        """Experiments down, metrics across: mean ± standard deviation over seeds, in Markdown."""
        rows = [
            "| experiment | " + " | ".join(metrics) + " | seeds |",
            "|---|" + "---:|" * (len(metrics) + 1),
        ]
        for name in names:
            cells = []
            for metric in metrics:
                many = len(self.values(name, metric)) > 1
                cells.append(
                    f"{self.mean(name, metric):.4g}" + (f" ± {self.spread(name, metric):.2g}" if many else "")
                )
            rows.append(f"| {name} | " + " | ".join(cells) + f" | {len(self.load(name)['runs'])} |")
        return Table("\n".join(rows))

    def _path(self, name: str) -> Path:
        if not name or name[0] == "." or not all(c.isalnum() or c in "-_." for c in name):
            raise ValueError(f"a ledger name is letters, digits, '-', '_' and '.', got {name!r}")
        return self.folder / f"{name}.json"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "source"


def _check_numbers(name: str, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name!r}: {key} must be a finite number, got {value!r}")


def _compact_lists(text: str) -> str:
    """Put the numbers of a list on one line: curves stay readable in a diff."""
    out: list[str] = []
    joining = False
    for line in text.splitlines():
        bare = line.strip()
        if joining:
            joining = not bare.startswith("]")
            out[-1] += bare if not joining else bare + (" " if bare.endswith(",") else "")
        else:
            out.append(line)
            joining = line.endswith("[") and '"runs"' not in line
    return "\n".join(out)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time where the system can lock (not on Windows)."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

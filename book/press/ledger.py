"""Published numbers: the ``{ledger}`` role in prose, and the page that lists every entry."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from press.markup import PressError
from vqbook.results import Ledger

STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "sd": statistics.stdev,
    "min": min,
    "max": max,
    "n": len,
}

FOLDED = 100  # rows above which a table of the page starts folded


def number(content: str, ledger: Ledger) -> str:
    """The text of ``{ledger}`name|metric|format|statistic```; the statistic over seeds defaults to the mean.

    Raises:
        PressError: no such entry or metric, or an unknown statistic.
    """
    fields = [part.strip() for part in content.split("|")]
    if len(fields) not in (3, 4):
        raise PressError(
            f"{{ledger}}`{content}` should be name|metric|format or name|metric|format|statistic"
        )
    name, metric, spec = fields[:3]
    statistic = fields[3] if len(fields) == 4 else "mean"
    if statistic not in STATISTICS:
        raise PressError(f"{{ledger}}`{content}`: {statistic!r} is none of {sorted(STATISTICS)}")
    try:
        values = ledger.values(name, metric)
    except (KeyError, OSError, ValueError) as error:
        raise PressError(f"{{ledger}}`{content}`: {error}") from error
    return format(STATISTICS[statistic](values), spec)


def page(ledger: Ledger) -> str:
    """The ledger page in Markdown: one section an entry, one row a metric, spread over seeds."""
    parts = [
        "# Ledger of results",
        "Every figure of merit that this book prints comes from one of these files in `book/results`. "
        "Each was written by the command shown; mean and sample standard deviation are over the seeds listed. "
        "Timings have [a page of their own](../how-fast.md).",
    ]
    for name in ledger.names():
        if name.startswith("bench-"):
            continue
        entry = ledger.load(name)
        runs = entry["runs"]
        seeds = ", ".join(str(run["seed"]) for run in runs)
        minutes = statistics.fmean(run["seconds"] for run in runs) / 60
        devices = ", ".join(sorted({run["device"] for run in runs}))
        parts.append(f"## {name}")
        parts.append(f"```bash\n{entry['command']}\n```")
        facts = f"Data: {entry['data']}. Profile: {entry['profile']}. Seeds: {seeds}. "
        parts.append(facts + f"Device: {devices}; {minutes:.1f} minutes a seed.")
        if entry.get("note"):
            parts.append(f"*{entry['note']}*")
        rows = ["| metric | mean | sd | runs |", "|---|---|---|---|"]
        for metric in dict.fromkeys(metric for run in runs for metric in run["values"]):
            values = [run["values"][metric] for run in runs if metric in run["values"]]
            spread = f"{statistics.stdev(values):.3g}" if len(values) > 1 else "–"
            rows.append(f"| `{metric}` | {statistics.fmean(values):.5g} | {spread} | {len(values)} |")
        shown = "\n".join(rows)
        if len(rows) > FOLDED:
            shown = f":::{{dropdown}} {len(rows) - 2:,} numbers\n{shown}\n:::"
        parts.append(shown)
    return "\n\n".join(parts) + "\n"

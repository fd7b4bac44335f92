"""The tables of the page "How fast", from the timings in the ledger."""

from __future__ import annotations

from pathlib import Path

from press.source import ROOT
from vqbook.results import Ledger
from vqbook.table_bench import table as topics_table

TABLES = ROOT / "book" / "appendix" / "how-fast-tables.md"
PREFIX = "bench-"
TITLES = {
    "bench-search-cpu": "Code search on a CPU",
    "bench-layer-cpu": "One training step of a layer on a CPU",
    "bench-gmvq-cpu": "One training step of GM-VQ on a CPU",
    "bench-search-cuda": "Code search on a GPU",
    "bench-layer-cuda": "One training step of a layer on a GPU",
    "bench-gmvq-cuda": "One training step of GM-VQ on a GPU",
    "bench-topics": "Topic-VQ-VAE for documents",
}


def tables(ledger: Ledger) -> str:
    """One section a benchmark, one table a size."""
    parts = []
    for name in (n for n in TITLES if n in ledger.names()):
        entry = ledger.load(name)
        run = entry["runs"][0]
        parts.append(f"## {TITLES[name]}")
        parts.append(
            f"`{entry['command']}` on {run['device']}, PyTorch {run['versions']['torch']}. {entry['note']}"
        )
        if name == "bench-topics":
            parts += [f"{entry['data']}.", topics_table(run["values"])]
            continue
        rows: dict[str, dict[str, dict[str, float]]] = {}
        for key, value in run["values"].items():
            size, candidate, metric = key.split(" / ")
            rows.setdefault(size, {}).setdefault(candidate, {})[metric] = value
        for size, candidates in rows.items():
            vectors, codes, dim = (f"{int(x):,}" for x in size.split("x"))
            parts.append(f"**{vectors} vectors, {codes} codes, {dim} dimensions**")
            parts.append(_table(candidates))
    return "\n\n".join(parts) + "\n"


def _table(candidates: dict[str, dict[str, float]]) -> str:
    with_memory = any("MiB" in row for row in candidates.values())
    lines = ["| what | ms | × first row |" + (" extra MiB |" if with_memory else "")]
    lines.append("|---|---:|---:|" + ("---:|" if with_memory else ""))
    for name, row in candidates.items():
        line = f"| {name} | {row['ms']:,.1f} | {row['ratio']:.2f} |"
        lines.append(line + (f" {row['MiB']:,.0f} |" if with_memory else ""))
    return "\n".join(lines)


def differences(ledger: Ledger, path: Path = TABLES) -> list[str]:
    """Say so where the printed tables are not those of the ledger."""
    if path.exists() and path.read_text(encoding="utf-8") == tables(ledger):
        return []
    return [f"book/appendix/{path.name} differs from the ledger; run `make student`"]

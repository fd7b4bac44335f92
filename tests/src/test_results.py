"""The ledger."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vqbook.results import Ledger


def put(ledger: Ledger, seed: int, mse: float, name: str = "vqvae", **change: Any) -> Path:
    entry: dict[str, Any] = dict(
        values={"mse": mse, "codes": 3},
        command="vqbook train vqvae",
        data="glyphs",
        note="",
        profile="smoke",
        seed=seed,
        device="cpu",
        seconds=1.234,
        history={"step": [1, 2], "terms": {"total": [0.5, 0.25]}, "seconds": 1.0},
    )
    return ledger.record(name, **{**entry, **change})


def test_one_run_a_seed_in_order_of_seed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for seed, mse in ((2, 0.3), (0, 0.1), (1, 0.9), (1, 0.2)):
        path = put(ledger, seed, mse)
    assert ledger.names() == ["vqvae"]
    assert ledger.values("vqvae", "mse") == [0.1, 0.2, 0.3]
    assert ledger.mean("vqvae", "mse") == pytest.approx(0.2)
    assert ledger.spread("vqvae", "mse") == pytest.approx(statistics.stdev([0.1, 0.2, 0.3]))
    entry = json.loads(path.read_text())
    assert list(entry) == ["name", "command", "data", "note", "profile", "runs"]
    assert [run["seed"] for run in entry["runs"]] == [0, 1, 2]
    assert entry["runs"][0]["seconds"] == 1.2
    assert entry["runs"][0]["history"]["terms"]["total"] == [0.5, 0.25]
    assert "[1, 2]" in path.read_text()  # a curve is one line


def test_runs_that_cannot_be_compared_are_not_averaged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    put(ledger, 0, 0.1)
    put(ledger, 1, 0.2, data="cifar10")
    assert ledger.values("vqvae", "mse") == [0.2]
    with pytest.raises(ValueError, match="at least two"):
        ledger.spread("vqvae", "mse")


def test_table_has_spread_where_there_is_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    put(ledger, 0, 0.1)
    put(ledger, 1, 0.3)
    put(ledger, 0, 0.5, name="other")
    table = ledger.table(["vqvae", "other"], ["mse"])
    assert table.splitlines()[2:] == ["| vqvae | 0.2 ± 0.14 | 2 |", "| other | 0.5 | 1 |"]
    assert table._repr_markdown_() == str(table)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "0.1", True, None, [1.0]])
def test_values_are_finite_numbers(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(ValueError, match="finite number"):
        put(Ledger(tmp_path), 0, 0.1, values={"mse": bad})
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(ValueError, match="nothing yet"):
        ledger.load("vqvae")
    put(ledger, 0, 0.1)
    with pytest.raises(ValueError, match="it has mse, codes"):
        ledger.values("vqvae", "psnr")
    put(ledger, 1, 0.1, values={f"row_{i}_mse": 0.1 for i in range(100)}, name="table")
    with pytest.raises(ValueError, match=r"no 'row_17_msa'; it has row_17_mse(, row_\d+_mse){4}, \.\.\.$"):
        ledger.values("table", "row_17_msa")
    for name in ("", "../up", ".hidden", "a b"):
        with pytest.raises(ValueError, match="ledger name"):
            ledger.load(name)
    (tmp_path / "vqvae.json").write_text("{")
    with pytest.raises(ValueError, match=r"vqvae\.json is not JSON"):
        ledger.load("vqvae")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    before = put(ledger, 0, 0.1).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vqbook.results.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        put(ledger, 1, 0.2)
    assert [p.name for p in tmp_path.iterdir()] == ["vqvae.json"]
    assert (tmp_path / "vqvae.json").read_bytes() == before


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from vqbook.results import Ledger\n"
        "for seed in range(int(sys.argv[1]), 40, 4):\n"
        "    Ledger(sys.argv[2]).record('x', values={'a': 1}, command='', data='', note='', profile='smoke',\n"
        "                               seed=seed, device='cpu', seconds=0)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(i), str(tmp_path)]) for i in range(4)]
    assert [w.wait() for w in writers] == [0] * 4
    assert len(Ledger(tmp_path).values("x", "a")) == 40


def test_the_default_folder_is_the_checkouts() -> None:
    assert Ledger().folder == Path(__file__).resolve().parents[2] / "book" / "results"


def test_the_ledger_needs_no_torch() -> None:
    code = "import sys, vqbook.results; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

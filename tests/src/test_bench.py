from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from vqbook import bench, results
from vqbook.cli import main

CPU = torch.device("cpu")


def test_every_candidate_runs_once_more_than_it_is_timed() -> None:
    runs: list[str] = []
    timings = bench.paired({"a": lambda: runs.append("a"), "b": lambda: runs.append("b")}, repeats=3)
    assert runs == ["a", "b"] * 4
    assert set(timings) == {"a", "b"}
    assert timings["a"].ratio == 1
    assert all(timing.milliseconds >= 0 for timing in timings.values())


def test_nothing_to_time_is_named() -> None:
    with pytest.raises(ValueError, match="candidates"):
        bench.paired({}, repeats=3)
    with pytest.raises(ValueError, match="'race'"):
        bench.run("race")


def test_all_searches_find_the_same_codes() -> None:
    found = {name: search() for name, search in bench.search_candidates((300, 40, 8), CPU).items()}
    want = found[bench.OURS]
    assert torch.equal(found["torch.cdist(...).argmin"], want)
    assert torch.equal(found["vqbook: the 5 nearest"][:, 0], want)
    if "faiss IndexFlatL2" in found:
        assert torch.equal(torch.from_numpy(found["faiss IndexFlatL2"][1][:, 0]), want)
    if bench.THEIRS in found:
        assert torch.equal(found[bench.THEIRS][1][0], want)


def test_a_matrix_too_large_for_the_machine_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench._LARGEST, "cpu", 300 * 40 * 4 - 1)
    names = set(bench.search_candidates((300, 40, 8), CPU))
    assert bench.OURS in names
    assert not names & {"torch.cdist(...).argmin", bench.THEIRS}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak of memory")
def test_extra_memory_is_seen() -> None:
    ours = bench.extra_memory(bench.OURS, (65_536, 512, 16), CPU)
    whole = bench.extra_memory("torch.cdist(...).argmin", (65_536, 512, 16), CPU)
    assert ours is not None
    assert whole is not None
    assert ours < 64 < 100 < whole  # one N x K matrix is 128 MiB


def test_report_has_a_row_a_candidate_and_size() -> None:
    found = bench.run("layer", repeats=1, sizes=((64, 8, 4), (32, 4, 4)))
    lines = bench.table(found).split("\n")
    assert sum("vqbook: EMA" in line for line in lines) == 2
    assert sum(line.startswith("| 64, 8, 4 |") for line in lines) == len(found.timings[64, 8, 4])


def test_a_step_of_the_mixture_beside_a_plain_one() -> None:
    candidates = bench.step_candidates((128, 8, 4), CPU)
    assert list(candidates)[:2] == ["vqbook: VQ-VAE", "vqbook: GM-VQ"]
    for candidate in candidates.values():
        candidate()
    found = bench.run("gmvq", repeats=1, sizes=((128, 8, 4),))
    assert "| 128, 8, 4 | vqbook: GM-VQ |" in bench.table(found)
    assert found.values()["128x8x4 / vqbook: VQ-VAE / ratio"] == 1


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_folder", lambda: tmp_path)
    assert main(["bench", "layer", "--repeats", "1", "--sizes", "64,8,4", "--ledger"]) == 0
    assert "vqbook: gradient" in capsys.readouterr().out
    assert results.Ledger().values("bench-layer-cpu", "64x8x4 / vqbook: EMA / ratio") == [1.0]
    assert main(["bench", "race"]) == 1
    with pytest.raises(SystemExit):
        main(["bench", "--sizes", "64,8"])

"""Table 1 of GM-VQ: every row trains, runs resume and are shared, slices end, and the words say what is what."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from vqbook import cli, reproduce
from vqbook.experiments import train_once
from vqbook.remedies import split
from vqbook.reproduce import choose, look, plan, record, train_all
from vqbook.results import Ledger
from vqbook.runs import Found, alone, in_turn, stem_of, tag
from vqbook.table1 import DATA, METRICS, OURS, PAPER, PROFILES, ROWS, build, sizes, table
from vqbook.train import fit, load_checkpoint

TINY = {
    **sizes("smoke"),
    "n": 40,
    "n_held": 8,
    "n_test": 8,
    "codes": 16,
    "steps": 4,
    "trial_steps": 2,
    "save_every": 2,
}
FIRST = {key: row.trials[0] for key, row in ROWS.items()}
FEW = ("vqvae", "gmvq")


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VQBOOK_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def runs(rows: tuple[str, ...] = FEW, **changes: Any) -> list[reproduce.Run]:
    return plan({**TINY, **changes}, seeds=[0], rows=rows, trials=False, chosen=FIRST)


def numbers(found: Found[reproduce.Run]) -> dict[str, Any]:
    return {run.name: (result["values"], result["history"]["terms"]) for run, result in found.results}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_trains_every_part_from_the_same_start(row: str) -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model, first = (build(key, TINY, x, 5, FIRST[key]).train() for key in (row, "vqvae"))
    decoders = zip(model.decoder.parameters(), first.decoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in decoders)
    trunks = zip(list(model.encoder.parameters())[:-2], list(first.encoder.parameters())[:-2], strict=True)
    assert all(torch.equal(a, b) for a, b in trunks)
    total, terms = ROWS[row].loss(FIRST[row])(model, x)
    total.backward()
    for part in (model.encoder, model.decoder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert 1 <= terms["batch_perplexity"] <= TINY["codes"]


def test_only_the_rows_that_say_so_start_from_k_means() -> None:
    x = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, started = (build(row, TINY, x, 5, FIRST[row]) for row in ("vqvae", "kmeans"))
    z = plain.encoder(x[:32]).permute(0, 2, 3, 1)
    far, near = ((z - m.quantizer(z).z_q).square().mean().item() for m in (plain, started))
    assert near < 0.5 * far
    assert {key for key, row in ROWS.items() if row.kmeans} == {"gmvq", "gmvq_entropy", "kmeans"}


def test_trials_are_as_many_for_every_row_and_have_names_of_their_own() -> None:
    assert len({len(row.trials) for row in ROWS.values()}) == 1
    trials = plan(TINY, seeds=[0], rows=tuple(ROWS), trials=True, chosen={})
    assert len({run.name for run in trials}) == len(trials) == sum(len(row.trials) for row in ROWS.values())
    assert {run.settings["steps"] for run in trials} == {TINY["trial_steps"]} and all(
        run.held for run in trials
    )


def test_smoke_makes_all_rows_prints_them_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vqbook.results._folder", lambda: tmp_path / "book")
    monkeypatch.setitem(PROFILES, "smoke", TINY)
    words = ["reproduce", "gmvq-table1", "--profile", "smoke", "--ledger"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert all(f"| {row.name} " in said for row in ROWS.values()) and said.count("(ours)") == len(OURS)
    for part in (
        "glyphs: 32 training and 8 test",
        "all 512 codes of the 8 pictures",
        "untried here",
        "recorded",
    ):
        assert part in said
    entry = Ledger(tmp_path / "book").load("gmvq-table1-glyphs-smoke")
    values = entry["runs"][0]["values"]
    assert {f"{row}_{metric}" for row in ROWS for metric in METRICS} <= set(values)
    assert values["vqvae_commit"] == FIRST["vqvae"]["commit"] and set(entry["runs"][0]["history"]) == set(
        ROWS
    )
    assert entry["command"] == "vqbook reproduce gmvq-table1 --data glyphs --profile smoke"
    files = {p.name for p in Path("runs/gmvq-table1-glyphs-smoke/seed-0").iterdir() if p.name[0] != "."}
    assert files == {f"{row}.json" for row in ROWS}  # a finished run leaves no checkpoint
    monkeypatch.setattr("vqbook.experiments.fit", lambda *_, **__: pytest.fail("trained again"))
    assert cli.main(words) == 0
    assert f"all {len(ROWS)} runs are there" in capsys.readouterr().out


def test_an_interrupted_run_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_all(runs(), tmp_path / "straight")
    calls = 0

    def dies(*arguments: Any, **named: Any) -> Any:
        def loss(model: Any, x: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 4:  # one step behind the checkpoint
                raise KeyboardInterrupt
            return arguments[2](model, x)

        return fit(*arguments[:2], loss, **named)

    folder = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr("vqbook.experiments.fit", dies)
        with pytest.raises(KeyboardInterrupt):
            train_all(runs(), folder)
    state, _ = load_checkpoint(folder / "seed-0" / "vqvae.safetensors")
    assert state["step"] == 2 and len(look(runs(), folder).left) == 2
    assert numbers(train_all(runs(), folder)) == numbers(straight)


def test_a_slice_ends_in_time_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = train_all(runs(), tmp_path / "straight")
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)

    def ticking(*arguments: Any, **named: Any) -> Any:
        def loss(model: Any, x: Any) -> Any:
            nonlocal now
            now += 10  # seconds a step
            return arguments[2](model, x)

        return fit(*arguments[:2], loss, **named)

    monkeypatch.setattr("vqbook.experiments.fit", ticking)
    done, slices = 0, 0
    while True:
        began = now
        found = train_all(runs(), tmp_path / "slices", minutes=0.5)  # 27 seconds, without the margin
        assert now - began <= 30
        slices += 1
        assert len(found.results) >= done and len(found.results) + len(found.left) == 2
        done = len(found.results)
        if not found.left:
            break
        assert slices < 10
    assert slices > 2
    assert numbers(found) == numbers(straight)
    monkeypatch.setitem(PROFILES, "smoke", TINY)
    assert cli.main(["reproduce", "gmvq-table1", "--profile", "smoke", "--minutes", "0.5"]) == 0
    said = capsys.readouterr().out
    assert f"0 of {len(ROWS)} runs are done; the same command goes on with: seed 0, VQ-VAE; " in said


def test_two_jobs_give_what_one_gives(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = train_all(runs(), tmp_path / "one")
    two = train_all(runs(), tmp_path / "two", jobs=2)
    assert not two.left and numbers(two) == numbers(one)
    assert "GM-VQ: MSE" in capfd.readouterr().out


def test_two_commands_share_a_folder(tmp_path: Path) -> None:
    words = ["reproduce", "gmvq-table1", "--profile", "smoke", "--out", "out", "--rows", *FEW]
    command = [sys.executable, "-m", "vqbook", *words]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    for row in FEW:
        assert sum(s.count(f"seed 0, {ROWS[row].name}: MSE") for s in said) == 1


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    first, second = runs()
    with alone(stem_of(first, tmp_path)) as mine:
        assert mine
        found = train_all(runs(), tmp_path)
    assert [run.row for run in found.left] == [first.row] and found.results[0][0].row == second.row


def test_a_worker_that_dies_is_told_of_and_finished_runs_stay(tmp_path: Path) -> None:
    (done, *_) = runs(("vqvae",))
    train_all([done], tmp_path)
    broken = done._replace(row="nothing", name="nothing", settings={**done.settings, "row": "nothing"})
    with pytest.raises(ChildProcessError, match="1 of 1 workers died"):
        train_all([done, broken], tmp_path, jobs=2)
    assert len(look([done], tmp_path).results) == 1


def test_a_run_that_diverges_is_said_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train_all(runs(lr=1e30), tmp_path)
    assert {run.row for run in found.diverged} == set(FEW) and not found.left and not found.results
    assert "seed 0, VQ-VAE: diverged" in capsys.readouterr().out
    monkeypatch.setattr("vqbook.experiments.fit", lambda *_, **__: pytest.fail("trained again"))
    assert len(train_all(runs(lr=1e30), tmp_path).diverged) == 2


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    train_all(runs(("vqvae",)), tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        train_all(runs(("vqvae",), steps=5), tmp_path)


def test_only_whole_seeds_are_recorded(tmp_path: Path) -> None:
    s = dict(name="t", command="c", profile="smoke", words=("d", ""))
    found = train_all(runs(), tmp_path)
    half = Found(found.results[:1], [found.results[1][0]], [])
    assert record(half, tmp_path, book=False, **s) == []  # type: ignore[arg-type]
    assert record(found, tmp_path, book=False, **s) == [0]  # type: ignore[arg-type]
    assert Ledger(tmp_path).mean("t", "gmvq_mse") == found.results[1][1]["values"]["mse"]


def test_another_number_of_steps_has_an_entry_of_its_own_with_the_rows_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, "smoke", TINY)
    words = ["--profile", "smoke", "--steps", "3", "--rows", *FEW, "--out", str(tmp_path / "out")]
    assert cli.main(["reproduce", "gmvq-table1", *words]) == 0
    entry = Ledger(tmp_path / "out").load("gmvq-table1-glyphs-smoke-3-steps")
    assert entry["command"].endswith("--profile smoke --steps 3 --rows vqvae gmvq")
    assert set(entry["runs"][0]["history"]) == set(FEW)
    assert entry["runs"][0]["history"]["gmvq"]["step"][-1] == 3


def test_settings_are_the_best_trials_of_the_ledger(tmp_path: Path) -> None:
    trials = plan(TINY, seeds=[0], rows=tuple(ROWS), trials=True, chosen={})
    values = {f"{run.name}_mse": 1.0 for run in trials}
    wanted = ROWS["gmvq"].trials[2]
    values[next(run.name for run in trials if run.row == "gmvq" and run.knobs == wanted) + "_mse"] = 0.5
    ledger = Ledger(tmp_path)
    chosen, whence = choose("glyphs", "smoke", ledger)
    assert chosen["gmvq"] == ROWS["gmvq"].trials[0] and "untried here, for VQ-VAE, " in whence
    said = dict(command="c", data="d", note="", profile="read", seed=0, device="CPU", seconds=1.0)
    ledger.record("gmvq-table1-settings-cifar10-read", values=values, **said)  # type: ignore[arg-type]
    chosen, whence = choose("glyphs", "smoke", ledger)
    assert chosen["gmvq"] == wanted and "gmvq-table1-settings-cifar10-read" in whence
    row = ROWS["vqvae"].trials[3]
    values = {f"vqvae_{tag(row)}_mse": 0.1}
    ledger.record("gmvq-table1-settings-glyphs-smoke", values=values, **said)  # type: ignore[arg-type]
    chosen, whence = choose("glyphs", "smoke", ledger)
    assert chosen["vqvae"] == row and chosen["gmvq"] == wanted and "glyphs-smoke and gmvq-table1" in whence


def test_trials_are_measured_on_training_images_and_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PROFILES, "smoke", TINY)
    assert cli.main(["reproduce", "gmvq-table1-settings", "--profile", "smoke", "--rows", "vqvae"]) == 0
    said = capsys.readouterr().out
    assert (
        "glyphs: 32 training and 8 other training images" in said
        and "commit 4" in said
        and said.count("*") == 1
    )
    run = plan(TINY, seeds=[0], rows=["vqvae"], trials=True, chosen={})[0]
    train, held, _ = split(run.settings)
    result = json.loads(Path(f"runs/gmvq-table1-settings-glyphs-smoke/seed-0/{run.name}.json").read_text())
    make = lambda: (build("vqvae", run.settings, train, 0, run.knobs), ROWS["vqvae"].loss(run.knobs))  # noqa: E731
    again = train_once(make, run.settings, train, held, stem=None, progress=False)
    assert result["values"] == pytest.approx(again["values"]) and result["values"]["tokens"] == 8 * 64


def test_the_papers_numbers_stand_beside_ours_where_they_are_known() -> None:
    values = [{f"{row}_{metric}": 0.003 for row in ROWS for metric in METRICS}] * 2
    lines = {line.split("|")[1].strip(): line for line in table(values, "cifar10").splitlines()}
    assert "3.00 ± 0.00" in lines["GM-VQ"] and "3.13" in lines["GM-VQ"] and "731.9" in lines["GM-VQ"]
    assert lines["VQ-VAE"].split("|")[-3:-1] == [
        " " * len(cell) for cell in lines["VQ-VAE"].split("|")[-3:-1]
    ]
    assert len({len(line) for line in lines.values()}) == 1
    assert "paper" not in table(values, "faces64") and "831" in table(values, "celeba")
    assert all(set(rows) <= set(ROWS) for rows in PAPER.values()) and set(PAPER) <= set(DATA)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "vqgan"], "no row 'vqgan': the rows are vqvae, l2, "),
        (["--data", "mnist"], "data must be one of cifar10, celeba, faces64, glyphs, got 'mnist'"),
    ],
)
def test_unknown_rows_and_data_are_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "gmvq-table1", "--profile", "smoke", *words]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["table2"], ["gmvq-table1", "--profile", "tiny"], ["gmvq-table1", "--minutes", "0"]]
)
def test_wrong_arguments_leave_with_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["reproduce", *words])
    assert left.value.code == 2
    assert "usage: vqbook reproduce" in capsys.readouterr().err


def test_sizes_follow_the_data_and_refuse_unknown_profiles() -> None:
    assert sizes("read", "faces64")["steps"] < sizes("read")["steps"]
    assert sizes("full", "faces64")["steps"] == sizes("full")["steps"]
    with pytest.raises(ValueError, match="profile must be one of smoke, read, full"):
        sizes("tiny")


def test_workers_stop_when_the_time_is_over_before_they_begin(tmp_path: Path) -> None:
    in_turn(runs(), tmp_path, time.time() - 1, reproduce.WORK)
    assert not look(runs(), tmp_path).results

"""The command line, in processes of its own, on generated pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqbook import cli
from vqbook.experiments import RATE_DISTORTION, VQVAE, patches
from vqbook.results import Ledger
from vqbook.train import Profile


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data folder, no profile, a cache of its own."""
    for name in [name for name in os.environ if name.startswith("VQBOOK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VQBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def vqbook(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vqbook", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_train_writes_checkpoint_picture_and_numbers_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "vqvae", "--profile", "smoke", "--out", "out", "--steps")
    first = vqbook(tmp_path, *words, "5")
    assert first.returncode == 0, first.stderr
    for part in ("test MSE", "perplexity", "active codes", "8,192 tokens", "glyphs: 512 training"):
        assert part in first.stdout
    assert first.stderr == ""
    folder = tmp_path / "out" / "seed-0"
    files = {"checkpoint.safetensors", "reconstructions.png", "vqvae-glyphs-smoke.json"}
    assert {p.name for p in folder.iterdir()} == files
    entry = Ledger(folder).load("vqvae-glyphs-smoke")
    assert entry["command"] == "vqbook train vqvae --data glyphs --profile smoke --steps 5"
    assert entry["runs"][0]["history"]["step"] == [1]
    picture = np.asarray(Image.open(folder / "reconstructions.png"))
    assert picture.shape == (2 * 34 * 4, 16 * 34 * 4, 3)
    monkeypatch.chdir(tmp_path)  # the rest in this process: importing torch takes seconds
    assert cli.main([*words, "8"]) == 0
    assert "going on from" in capsys.readouterr().err
    assert cli.main([*words, "3"]) == 1
    assert "8 steps long already" in capsys.readouterr().err


def test_measure_prints_and_records(tmp_path: Path) -> None:
    done = vqbook(
        tmp_path, "measure", "rate-distortion", "--profile", "smoke", "--seeds", "2", "--out", "out"
    )
    assert done.returncode == 0, done.stderr
    ledger = Ledger(tmp_path / "out" / "seed-1")
    entry = ledger.load("rate-distortion-glyphs-smoke")
    curves = entry["runs"][0]["history"]
    assert curves["num_codes"] == [2, 4, 8, 16, 32]
    assert all(0 <= h <= r for h, r in zip(curves["entropy_bits"], curves["log2_codes"], strict=True))
    assert curves["train_mse"][-1] < curves["train_mse"][0]
    assert entry["runs"][0]["values"]["test_mse_32"] == curves["test_mse"][-1]
    assert entry["command"] == "vqbook measure rate-distortion --data glyphs --profile smoke"


def test_ledger_flag_records_into_the_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "book"
    monkeypatch.setattr("vqbook.results._folder", lambda: book)
    monkeypatch.chdir(tmp_path)
    words = ["measure", "rate-distortion", "--profile", "smoke", "--seed", "4", "--ledger"]
    assert cli.main(words) == 0
    assert json.loads((book / "rate-distortion-glyphs-smoke.json").read_text())["runs"][0]["seed"] == 4
    assert (tmp_path / "runs" / "rate-distortion-glyphs-smoke" / "seed-4").is_dir()
    assert cli.main(["ledger"]) == 0
    assert "| rate-distortion-glyphs-smoke |" in capsys.readouterr().out
    assert cli.main(["ledger", "nothing"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["train"],
        ["train", "vqgan"],
        ["train", "vqvae", "--data", "bars"],
        ["train", "vqvae", "--steps", "0"],
        ["train", "vqvae", "--seed", "1", "--seeds", "2"],
        ["train", "vqvae", "--steps", "5", "--ledger"],
        ["measure", "rate-distortion", "--steps", "5"],
        ["data", "check", "mnist"],
    ],
)
def test_wrong_arguments_leave_with_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert "usage: vqbook" in capsys.readouterr().err


def test_missing_data_is_one_sentence_and_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQBOOK_DATA", str(tmp_path / "nowhere"))
    assert cli.main(["train", "vqvae", "--profile", "read"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("vqbook: VQBOOK_DATA")
    assert len(said.splitlines()) == 1


def test_data_list_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "list"]) == 0
    assert "glyphs" in capsys.readouterr().out
    assert cli.main(["data", "check", "glyphs"]) == 0
    assert "(3, 32, 32) torch.uint8" in capsys.readouterr().out


def test_help_names_every_command() -> None:
    for words in ([], ["train"], ["measure"], ["reproduce"], ["data"], ["ledger"]):
        with pytest.raises(SystemExit) as left:
            cli.main([*words, "--help"])
        assert left.value.code == 0


@pytest.mark.parametrize("sizes", [VQVAE, RATE_DISTORTION])
def test_settings_serve_chapters_too(sizes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("smoke", "read", "full"):
        monkeypatch.setenv("VQBOOK_PROFILE", name)
        assert Profile.current(**sizes).data == sizes[name]["data"]


def test_patches_are_squares_that_tile_the_image() -> None:
    x = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8).float()
    cut = patches(x, 4)
    assert cut.shape == (8, 48)
    assert torch.equal(cut[5].view(3, 4, 4), x[1, :, :4, 4:])
    with pytest.raises(ValueError, match="3 divides"):
        patches(x, 3)

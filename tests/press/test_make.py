"""The Makefile offers what the README promises."""

from __future__ import annotations

import subprocess

import pytest
from press.source import ROOT


@pytest.mark.parametrize(
    "target", ["book", "serve", "test", "notebooks", "student", "prove", "lint", "bench", "clean", "help"]
)
def test_targets_exist(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_old_python_is_named(tmp_path) -> None:
    """A Python that is too old gets one sentence, not a traceback."""
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\necho "This book needs Python 3.11 or newer" >&2\nexit 1\n')
    fake.chmod(0o755)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    done = subprocess.run(
        ["make", f"PYTHON={fake}", ".venv/.installed"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert not (tmp_path / ".venv").exists()

"""The late seed's experiment: error taken apart, one draw changed at a time, everything on held-out images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vqbook.plateau import DRAWS, OTHERS, PLATEAU, colour_error, made, run_plateau
from vqbook.table1 import ROWS

KNOBS = ROWS["kmeans"].trials[0]
S = {**PLATEAU["smoke"], "n": 40, "n_held": 8, "n_test": 8, "codes": 16, "steps": 2}


def test_the_error_is_that_of_gray_and_that_of_colour() -> None:
    x, x_hat = torch.rand(2, 3, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = (x - x_hat).mean(1)  # of the gray pictures
    torch.testing.assert_close((x - x_hat).square().mean(), error.square().mean() + colour_error(x, x_hat))
    gray = x_hat.mean(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(colour_error(x, gray), colour_error(x, torch.zeros_like(x)))
    assert colour_error(gray, torch.zeros_like(x)) < 1e-30


def test_a_draw_has_a_seed_of_its_own() -> None:
    x = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    own = {draw: 5 for draw in DRAWS}
    (plain, _), (codes, _), (weights, loss) = (
        made(S, x, seeds, KNOBS) for seeds in (own, {**own, "codes": 6}, {**own, "weights": 6})
    )
    first = [next(iter(model.encoder.parameters())) for model in (plain, codes, weights)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
    assert not torch.equal(plain.quantizer.codebook, codes.quantizer.codebook)
    total, terms = loss(weights, x[:4])
    with torch.no_grad():
        torch.testing.assert_close(terms["colour_error"], colour_error(x[:4], weights(x[:4]).x_hat))
    assert total.requires_grad and not weights.decoder._forward_hooks


def test_a_run_measures_each_start_on_held_out_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VQBOOK_DATA", raising=False)
    outcome = run_plateau(S, seed=2, checkpoint=tmp_path / "checkpoint.safetensors", progress=False)
    names = {"own"} | {f"{draw}_{other}" for draw in DRAWS for other in OTHERS}
    assert set(outcome.history) == names
    assert {f"{name}_mse" for name in names} < set(outcome.values) and outcome.values["colour"] > 0
    assert "8 other training images" in outcome.data
    assert all(set(h["terms"]) == {"reconstruction", "colour_error"} for h in outcome.history.values())
    again = run_plateau(S, seed=2, checkpoint=tmp_path / "checkpoint.safetensors", progress=False)
    assert again.values == outcome.values

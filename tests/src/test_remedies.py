"""The experiment of chapter 4: fair, resumable, and with settings that the ledger accounts for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vqbook import remedies
from vqbook.remedies import RECIPES, REMEDIES, TRIED, Knobs, build, commit_weight_of, loss, run_remedies
from vqbook.results import Ledger

TINY = {**REMEDIES["smoke"], "n": 40, "n_held": 8, "n_test": 8, "codes": 32, "steps": 2, "trial_steps": 1}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(80, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_encoder_and_decoder_start_alike_whatever_the_remedy(images: torch.Tensor) -> None:
    first = build("plain", TINY, images, 3, Knobs())
    for remedy in RECIPES:
        other = build(remedy, TINY, images, 3, Knobs())
        for part in ("encoder", "decoder"):
            pairs = zip(getattr(first, part).parameters(), getattr(other, part).parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), (remedy, part)


@pytest.mark.parametrize("remedy", RECIPES)
def test_every_remedy_trains_every_part(remedy: str, images: torch.Tensor) -> None:
    model = build(remedy, TINY, images, 0, Knobs()).train()
    total, terms = loss(commit_weight_of(remedy, Knobs()))(model, images[:8])
    total.backward()
    for part in (model.encoder, model.decoder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert 1 <= terms["batch_perplexity"] <= TINY["codes"]
    codes = model.eval().encode(images[:8])
    torch.testing.assert_close(model.decode(codes), model(images[:8]).x_hat, atol=1e-5, rtol=1e-4)


def test_stretched_scales_the_gradient_and_does_not_turn_it() -> None:
    z_e, z_q = torch.randn(2, 10, 4)
    z_e.requires_grad_()
    g = torch.randn(10, 4)
    value = remedies.stretched(z_e, z_q)
    torch.testing.assert_close(value, z_q)
    (to_z,) = torch.autograd.grad((value * g).sum(), z_e)
    ratio = z_q.norm(dim=-1, keepdim=True) / z_e.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(to_z, ratio * g)


def test_finished_remedies_are_kept_and_other_settings_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    few = {key: RECIPES[key] for key in ("plain", "ema_revival")}
    monkeypatch.setattr(remedies, "RECIPES", few)
    first = run_remedies(TINY, seed=1, checkpoint=checkpoint, progress=False)
    assert {f"{key}_{m}" for key in few for m in remedies.METRICS} <= set(first.values)
    assert "EMA + revival" in first.summary and set(first.history) == set(few)
    monkeypatch.setattr("vqbook.experiments.fit", lambda *_, **__: pytest.fail("trained again"))
    assert run_remedies(TINY, seed=1, checkpoint=checkpoint, progress=False).values == first.values
    with pytest.raises(ValueError, match="other settings"):
        run_remedies({**TINY, "steps": 3}, seed=1, checkpoint=checkpoint, progress=False)


def test_settings_are_those_that_did_best_on_held_out_images() -> None:
    values = Ledger().load("remedies-settings-cifar10-read")["runs"][0]["values"]
    for knob, (_, tried) in TRIED.items():
        best = min(tried, key=lambda value: values[f"{knob}_{value:g}_mse"])
        assert getattr(Knobs(), knob) == best, knob


def test_only_the_last_training_images_are_held_out() -> None:
    train, held, test = remedies.split(TINY)
    assert (len(train), len(held), len(test)) == (32, 8, 8)
    both = torch.cat([train, held])
    assert len(both.flatten(1).unique(dim=0)) > 32

"""The trial of GM-VQ: rows that differ in one thing, resumable, with settings that the ledger accounts for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vqbook import gmvq_study
from vqbook.gmvq_study import (
    FIGURE4,
    ROWS,
    SETTINGS,
    STUDY,
    Row,
    build,
    grouped_kl,
    loss,
    posterior_values,
    probe,
    reconstructions,
    run_gmvq_study,
    shown,
    train_row,
)
from vqbook.objectives import aggregate_kl, code_kl, gmvq_loss
from vqbook.quantizers import GaussianMixtureQuantizer
from vqbook.results import Ledger
from vqbook.train import to_unit

TINY: dict[str, Any] = {**STUDY["smoke"], "steps": 2, "codes": 16, "warm_up": 40, "probes": [0, 1]}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VQBOOK_DATA", raising=False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_encoder_and_decoder_start_alike_in_every_row(images: torch.Tensor) -> None:
    first = build(ROWS["vq_1"], TINY, images, 3)
    for name, row in ROWS.items():
        other = build(row, TINY, images, 3)
        for part in ("encoder", "decoder"):
            pairs = zip(getattr(first, part).parameters(), getattr(other, part).parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), (name, part)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains_every_part(name: str, images: torch.Tensor) -> None:
    model = build(ROWS[name], TINY, images, 0).train()
    total, terms = loss(ROWS[name])(model, to_unit(images[:16]))
    total.backward()
    for part in (model.encoder, model.decoder):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        assert any(p.grad.any() for p in part.parameters())
    assert 1 <= terms["batch_perplexity"] <= model.quantizer.num_codes


def test_groups_reach_from_the_elbo_to_albo() -> None:
    log_q = (2 * torch.randn(4, 2, 8, 9, dtype=torch.float64)).log_softmax(-1)
    prior = torch.full((9,), -math.log(9), dtype=torch.float64)
    torch.testing.assert_close(grouped_kl(log_q, prior, 1), code_kl(log_q, prior))
    torch.testing.assert_close(grouped_kl(log_q, prior, 64), aggregate_kl(log_q, prior))
    values = [torch.stack([grouped_kl(log_q, prior, g) for _ in range(200)]).mean() for g in (1, 4, 16, 64)]
    assert values == sorted(values, reverse=True)
    by_image = torch.stack([aggregate_kl(part, prior) for part in log_q]).mean()
    torch.testing.assert_close(grouped_kl(log_q, prior, 16, by_image=True), by_image)
    for group in (0, 5):
        with pytest.raises(ValueError, match="divide"):
            grouped_kl(log_q, prior, group)


def test_a_row_with_groups_weighs_them_as_gmvq_loss_does(images: torch.Tensor) -> None:
    x = to_unit(images[:4])
    model = build(ROWS["gmvq_10"], TINY, images, 0).eval()  # no noise: the forward pass is the same
    out, row = model(x), Row(factor=10, group=4 * 64)
    ours = gmvq_study.mixture_loss(row, model, x, out)
    torch.testing.assert_close(ours, gmvq_loss(x, out, beta=row.beta, gamma=row.gamma))


def test_probe_leaves_the_model_as_it_was_and_finds_the_bias(images: torch.Tensor) -> None:
    model = build(ROWS["lambda_1"], {**TINY, "codes": 4}, images, 0).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = probe(model, images, torch.Generator().manual_seed(0), positions=3, samples=2_000)
    assert model.training and all(torch.equal(before[key], v) for key, v in model.state_dict().items())
    assert 0 <= found["entropy"] <= math.log(4) and found["temperature"] == 1
    assert found["size"] > 0 and 0 <= found["bias"] < 10 * found["size"] and found["noise"] < found["size"]


def test_posterior_values_do_not_move_the_temperature(images: torch.Tensor) -> None:
    model = build(ROWS["gmvq_1"], TINY, images, 0)
    found = posterior_values(model, images)
    assert isinstance(model.quantizer, GaussianMixtureQuantizer) and int(model.quantizer.step) == 0
    assert not model.training
    assert 0 <= found["conditional"] <= found["marginal"] <= math.log(16) + 1e-9
    assert posterior_values(build(ROWS["vq_1"], TINY, images, 0), images) == {}


def test_pictures_survive_the_ledger(images: torch.Tensor) -> None:
    model = build(ROWS["vq_1"], TINY, images, 0).eval()
    strip = shown(json.loads(json.dumps(reconstructions(model, images[:3]))))
    assert strip.shape == (32, 96, 3)
    x_hat = model(to_unit(images[:3])).x_hat.clamp(0, 1)
    assert (strip[:, :32].permute(2, 0, 1) - x_hat[0]).abs().mean() < 0.05


def test_finished_rows_are_kept_and_other_settings_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    settings = {**TINY, "rows": ["vq_1", "lambda_1"]}
    first = run_gmvq_study(settings, seed=0, checkpoint=checkpoint, progress=False)
    assert first.history["lambda_1"]["probe"]["step"] == [0, 1, 2]
    assert shown(first.history["originals"]).shape == (32, 8 * 32, 3)
    assert "pictures" in first.history["vq_1"] and "vq_1_conditional" not in first.values
    monkeypatch.setattr(gmvq_study, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert run_gmvq_study(settings, seed=0, checkpoint=checkpoint, progress=False).values == first.values
    with pytest.raises(ValueError, match="other settings"):
        run_gmvq_study({**settings, "steps": 3}, seed=0, checkpoint=checkpoint, progress=False)


def test_a_probe_does_not_change_the_training(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    how = dict(seed=1, folder=None, progress=False)
    probed = train_row("lambda_1", TINY, images, images, images, **how)
    plain = train_row("gmvq_1", TINY, images, images, images, **how)
    assert probed["values"] == plain["values"]


def test_settings_are_those_that_did_best_on_held_out_images() -> None:
    values = Ledger().load("gmvq-study-settings-cifar10-read")["runs"][0]["values"]
    tried = [name for name in SETTINGS["read"]["rows"] if ROWS[name].kind == "gmvq"]
    assert min(tried, key=lambda name: values[f"{name}_mse"]) == "gmvq_1"


def test_the_sweep_of_figure_4_is_not_repeated_in_the_study() -> None:
    assert not set(FIGURE4["read"]["rows"]) & set(STUDY["read"]["rows"])
    assert {name for name, row in ROWS.items() if row.probe} == {"lambda_0", "lambda_1", "lambda_2"}

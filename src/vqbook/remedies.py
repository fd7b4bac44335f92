"""Which remedy buys what, at equal budget: the experiment of chapter 4.

One encoder, one decoder, one data set, one optimiser and one number of steps; only the quantizer changes. What a
remedy leaves open (a decay, a timeout) was chosen by `run_settings` on training images that no run learns from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqbook import data
from vqbook.experiments import COMMIT_WEIGHT, Outcome, device_words, images, train_once
from vqbook.metrics import perplexity
from vqbook.nets import Decoder, Encoder
from vqbook.objectives import vqvae_terms
from vqbook.quantizers import (
    AffineVectorQuantizer,
    Alternating,
    CosineVectorQuantizer,
    EMAVectorQuantizer,
    LowDimensional,
    Revival,
    VectorQuantizer,
    rotation_trick,
    straight_through,
    synchronised,
)
from vqbook.quantizers.wrapper import Wrapper
from vqbook.train import pick_device, seed_everything, to_unit
from vqbook.vqvae import VQVAE

REMEDIES: dict[str, dict[str, Any]] = {  # chapter 4; n training images, of which n_held are held out
    "smoke": dict(
        data="glyphs",
        n=288,
        n_held=32,
        n_test=64,
        hidden=16,
        dim=16,
        codes=64,
        steps=20,
        trial_steps=10,
        batch=16,
        lr=3e-3,
    ),
    "read": dict(
        data="cifar10",
        n=12_000,
        n_held=2_000,
        n_test=2_000,
        hidden=32,
        dim=32,
        codes=512,
        steps=1_500,
        trial_steps=600,
        batch=64,
        lr=1e-3,
    ),
    "full": dict(
        data="cifar10",
        n=50_000,
        n_held=5_000,
        n_test=8_000,
        hidden=128,
        dim=64,
        codes=1024,
        steps=20_000,
        trial_steps=5_000,
        batch=128,
        lr=1e-3,
    ),
}


@dataclass(frozen=True)
class Knobs:
    """What the remedies leave open, at the values that were chosen.

    Attributes:
        leash: weight of the commitment term where a strong one is the remedy; elsewhere it is COMMIT_WEIGHT, and 0
            with alternating optimisation, as its authors have it.
        cosine_commit: the same on the unit sphere, where squared distances have another size.
        decay: of the running averages.
        timeout: batches without use before a code restarts.
        low_dim: dimensions in which codes are chosen.
        eta: speed of the affine map.
        opt_lr: step size of the inner step.
        nu: share of the task's gradient that the codebook receives.
    """

    leash: float = 1.0
    cosine_commit: float = 0.1
    decay: float = 0.8
    timeout: int = 5
    low_dim: int = 2
    eta: float = 50.0
    opt_lr: float = 50.0
    nu: float = 0.2


# Knob: (the remedy on which it was tried, the values that were tried).
TRIED: dict[str, tuple[str, tuple[float, ...]]] = {
    "leash": ("leash", (1.0, 4.0, 16.0)),
    "cosine_commit": ("cosine", (0.03, 0.1, 0.25, 1.0)),
    "decay": ("ema", (0.8, 0.95, 0.99)),
    "timeout": ("revival", (2, 5, 20, 100)),
    "low_dim": ("low_dim", (2, 4, 8)),
    "eta": ("affine", (2.0, 10.0, 50.0, 250.0)),
    "opt_lr": ("opt", (5.0, 50.0, 200.0)),
    "nu": ("synchronised", (0.05, 0.2, 1.0, 2.0)),
}


def stretched(z_e: Tensor, z_q: Tensor) -> Tensor:
    """Straight through, with the gradient scaled by |z_q| / |z_e| as in the rotation trick, but not turned."""
    length = z_e.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return straight_through((z_q.norm(dim=-1, keepdim=True) / length).detach() * z_e, z_q)


Build = Callable[[int, int, Knobs], VectorQuantizer | Wrapper]
RECIPES: dict[
    str, tuple[str, Build]
] = {  # key in the ledger: (name on the page, quantizer of K codes, D, knobs)
    "plain": ("plain", lambda K, D, k: VectorQuantizer(K, D)),
    "leash": ("short leash", lambda K, D, k: VectorQuantizer(K, D)),
    "kmeans": ("k-means start", lambda K, D, k: VectorQuantizer(K, D)),
    "ema": ("EMA", lambda K, D, k: EMAVectorQuantizer(K, D, decay=k.decay)),
    "revival": ("revival", lambda K, D, k: Revival(VectorQuantizer(K, D), k.timeout)),
    "ema_revival": (
        "EMA + revival",
        lambda K, D, k: Revival(EMAVectorQuantizer(K, D, decay=k.decay), k.timeout),
    ),
    "cosine": ("cosine", lambda K, D, k: CosineVectorQuantizer(K, D)),
    "cosine_revival": ("cosine + revival", lambda K, D, k: Revival(CosineVectorQuantizer(K, D), k.timeout)),
    "low_dim": ("low-dimensional", lambda K, D, k: LowDimensional(VectorQuantizer(K, int(k.low_dim)), D)),
    "affine": ("affine", lambda K, D, k: AffineVectorQuantizer(K, D, eta=k.eta)),
    "opt": ("OPT", lambda K, D, k: Alternating(VectorQuantizer(K, D), k.opt_lr)),
    "affine_opt": (
        "affine + OPT",
        lambda K, D, k: Alternating(AffineVectorQuantizer(K, D, eta=k.eta), k.opt_lr),
    ),
    "synchronised": ("synchronised", lambda K, D, k: VectorQuantizer(K, D, estimator=synchronised(k.nu))),
    "rotation": ("rotation trick", lambda K, D, k: VectorQuantizer(K, D, estimator=rotation_trick)),
    "stretch": ("stretch alone", lambda K, D, k: VectorQuantizer(K, D, estimator=stretched)),
}
METRICS = ("mse", "perplexity", "active_codes")


def build(remedy: str, s: dict[str, Any], x: Tensor, seed: int, knobs: Knobs) -> VQVAE:
    """The autoencoder with one remedy. Encoder and decoder of a seed start alike whatever the remedy is.

    Args:
        remedy: a key of RECIPES.
        s: settings, one profile of REMEDIES.
        x: training images; "kmeans" puts its first codes on what the untrained encoder makes of some of them.
        seed: of all initial weights.
        knobs: what the remedy leaves open.
    """
    seed_everything(seed)
    encoder, decoder = (
        net(x.shape[1], hidden=s["hidden"], dim=s["dim"], res_blocks=2) for net in (Encoder, Decoder)
    )
    quantizer = RECIPES[remedy][1](s["codes"], s["dim"], knobs)
    model = VQVAE(encoder, quantizer, decoder)
    if remedy == "kmeans":
        kmeans_start(model, x[: 2 * s["codes"]], seed)
    return model


def kmeans_start(model: VQVAE, x: Tensor, seed: int) -> None:
    """Put the first codes, by k-means, on what the encoder makes of some images before any training.

    Args:
        model: on the CPU; its quantizer has `initialise`.
        x: images, (B, C, H, W), whose positions are at least as many as the codes.
        seed: of the k-means.
    """
    quantizer: Any = model.quantizer
    with torch.no_grad():
        z = model.encoder(to_unit(x)).permute(0, 2, 3, 1)  # (B, h, w, D)
    quantizer.initialise(z, torch.Generator().manual_seed(seed))


def commit_weight_of(remedy: str, knobs: Knobs) -> float:
    """The weight of the commitment term that a remedy is trained with."""
    if "opt" in remedy:
        return 0.0
    if "cosine" in remedy:
        return knobs.cosine_commit
    return knobs.leash if remedy == "leash" else COMMIT_WEIGHT


def loss(commit_weight: float) -> Callable[[nn.Module, Tensor], tuple[Tensor, dict[str, Tensor]]]:
    """Reconstruction, plus the codebook term where there is one, plus weighted commitment."""

    def total(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out = model(x)
        terms = vqvae_terms(x, out)
        value = (
            terms["reconstruction"]
            + terms.get("codebook", x.new_zeros(()))
            + commit_weight * terms["commitment"]
        )
        return value, {**terms, "batch_perplexity": perplexity(out.quantized.usage)}

    return total


def train_one(
    remedy: str,
    s: dict[str, Any],
    x: Tensor,
    measured_on: Tensor,
    *,
    seed: int,
    knobs: Knobs,
    folder: Path | None,
    name: str,
    progress: bool = True,
) -> dict[str, Any]:
    """Train with one remedy and measure it; take the result from `folder` if it is there already.

    Args:
        remedy: a key of RECIPES.
        s: settings.
        x: images to learn from.
        measured_on: images to measure on.
        seed: of weights and batches.
        knobs: what the remedies leave open.
        folder: where finished results and checkpoints of interrupted runs are kept, or None.
        name: of the files.
        progress: show a bar.
    Returns:
        {"settings", "values", "history", "seconds"}.
    Raises:
        ValueError: the folder holds a result of other settings.
    """
    return train_once(
        lambda: (build(remedy, s, x, seed, knobs), loss(commit_weight_of(remedy, knobs))),
        {**s, **asdict(knobs), "seed": seed, "remedy": remedy},
        x,
        measured_on,
        stem=folder / name if folder else None,
        progress=progress,
    )


def run_remedies(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None, progress: bool = True
) -> Outcome:
    """Train one model for each remedy and measure it on test images. Finished remedies are kept."""
    train, _, test = split(settings)
    folder = checkpoint.parent / "remedies" if checkpoint else None
    results = {
        remedy: train_one(
            remedy,
            settings,
            train,
            test.x,
            seed=seed,
            knobs=Knobs(),
            folder=folder,
            name=remedy,
            progress=progress,
        )
        for remedy in RECIPES
    }
    rows = {remedy: RECIPES[remedy][0] for remedy in RECIPES}
    words = f"{test.name}: {len(train):,} training and {len(test):,} test images"
    return _outcome(results, rows, words, test.note)


def run_settings(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None, progress: bool = True
) -> Outcome:
    """Try the values of TRIED, one knob at a time, in shorter runs measured on held-out training images."""
    train, held, test = split(settings)
    folder = checkpoint.parent / "settings" if checkpoint else None
    results = {
        f"{knob}_{value:g}": train_one(
            remedy,
            {**settings, "steps": settings["trial_steps"]},
            train,
            held,
            seed=seed,
            knobs=replace(Knobs(), **{knob: value}),  # type: ignore[arg-type]
            folder=folder,
            name=f"{knob}_{value:g}",
            progress=progress,
        )
        for knob, (remedy, values) in TRIED.items()
        for value in values
    }
    words = f"{test.name}: {len(train):,} training and {len(held):,} other training images"
    return _outcome(results, {name: name for name in results}, words, test.note)


def _outcome(results: dict[str, dict[str, Any]], rows: dict[str, str], words: str, note: str) -> Outcome:
    values = {f"{name}_{metric}": results[name]["values"][metric] for name in results for metric in METRICS}
    values["tokens"] = next(iter(results.values()))["values"]["tokens"]
    lines = [f"{'':18}{'MSE':>9}{'perplexity':>12}{'active':>8}   ({values['tokens']:,} tokens)"]
    for name, result in results.items():
        v = result["values"]
        lines.append(f"{rows[name]:18}{v['mse']:9.5f}{v['perplexity']:12.1f}{v['active_codes']:8}")
    return Outcome(
        values,
        {name: {key: r["history"][key] for key in ("step", "terms")} for name, r in results.items()},
        sum(r["seconds"] for r in results.values()),
        device_words(pick_device()),
        words,
        note,
        "\n".join(lines),
    )


def split(s: dict[str, Any]) -> tuple[Tensor, Tensor, data.ImageSet]:
    """Images to learn from, held-out training images, and the test set."""
    train, test = images(s)
    return train.x[: -s["n_held"]], train.x[-s["n_held"] :], test

"""The book's experiments: their settings in one place, and how they are run.

A chapter takes its settings from here (`Profile.current(**VQVAE)`), the command line runs the same ones, so
a ledger number and the notebook that shows it belong together.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from vqbook import data
from vqbook.metrics import entropy_bits, evaluate_vqvae
from vqbook.nets import Decoder, Encoder
from vqbook.objectives import vqvae_terms
from vqbook.quantizers import VectorQuantizer, kmeans, nearest_code
from vqbook.rates import mean_colours, priced_kmeans, rotated_scalars
from vqbook.results import atomic_write
from vqbook.train import History, Loss, bar, fit, seed_everything, to_unit
from vqbook.vqvae import VQVAE as Model

VQVAE: dict[str, dict[str, Any]] = {  # chapter 3
    "smoke": dict(
        data="glyphs", n=512, n_test=128, hidden=32, dim=16, codes=64, steps=200, batch=32, lr=3e-3
    ),
    "read": dict(
        data="cifar10", n=10_000, n_test=2_000, hidden=64, dim=16, codes=512, steps=4_000, batch=64, lr=1e-3
    ),
    "full": dict(
        data="cifar10",
        n=50_000,
        n_test=8_000,
        hidden=128,
        dim=16,
        codes=512,
        steps=30_000,
        batch=128,
        lr=1e-3,
    ),
}
RATE_DISTORTION: dict[str, dict[str, Any]] = {  # chapter 1
    "smoke": dict(data="glyphs", n=256, n_test=128, patch=4, sample=4_000, largest=32, iterations=8),
    "read": dict(data="cifar10", n=5_000, n_test=2_000, patch=4, sample=60_000, largest=512, iterations=20),
    "full": dict(data="cifar10", n=20_000, n_test=8_000, patch=4, sample=200_000, largest=512, iterations=40),
}
COLOUR_LEVELS = (2, 3, 4, 6, 8)  # of each channel's mean
PRICES = (0.4, 0.2, 0.1, 0.07, 0.05)  # squared error of a patch that one bit is worth
RESAMPLES = 50  # of the test pictures
COMMIT_WEIGHT = 0.25


class Outcome(NamedTuple):
    """What one run of an experiment gives.

    Attributes:
        values: the numbers, by name.
        history: curves, by name.
        seconds: wall-clock time of the work itself.
        device: what it ran on, in words.
        data: the data set, in words.
        note: what a reader must know before comparing, "" if nothing.
        summary: the result as a person reads it on a terminal.
        pictures: test images and their reconstructions, each (n, C, H, W) in [0, 1], or None.
    """

    values: dict[str, float]
    history: dict[str, Any]
    seconds: float
    device: str
    data: str
    note: str
    summary: str
    pictures: tuple[Tensor, Tensor] | None = None


def build_vqvae(channels: int, *, hidden: int, dim: int, codes: int, seed: int = 0) -> Model:
    """The autoencoder of chapter 3: two halvings, so a 32 x 32 image becomes 8 x 8 codes.

    Args:
        channels: of the images.
        hidden: channels inside encoder and decoder.
        dim: D, the length of a code.
        codes: K, the size of the codebook.
        seed: of all initial weights; the global generators are seeded with it.
    """
    seed_everything(seed)
    return Model(
        Encoder(channels, hidden=hidden, dim=dim),
        VectorQuantizer(codes, dim),
        Decoder(channels, hidden=hidden, dim=dim),
    )


def vqvae_loss(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction + codebook + 0.25 commitment, the objective of VQ-VAE (chapter 3)."""
    terms = vqvae_terms(x, model(x))
    return terms["reconstruction"] + terms["codebook"] + COMMIT_WEIGHT * terms["commitment"], terms


def train_vqvae(
    s: dict[str, Any], x: Tensor, *, seed: int, checkpoint: Path | None, progress: bool
) -> tuple[Model, History]:
    """A VQ-VAE of the sizes that the settings name, trained on images (N, C, H, W)."""
    model = build_vqvae(x.shape[1], hidden=s["hidden"], dim=s["dim"], codes=s["codes"], seed=seed)
    history = fit(
        model,
        x,
        vqvae_loss,
        steps=s["steps"],
        batch_size=s["batch"],
        lr=s["lr"],
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    return model, history


def run_vqvae(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None, progress: bool = True
) -> Outcome:
    """Train a VQ-VAE, measure it on test images. Goes on from the checkpoint where there is one."""
    s = settings
    train, test = images(s)
    model, history = train_vqvae(s, train.x, seed=seed, checkpoint=checkpoint, progress=progress)
    device = next(model.parameters()).device
    few = to_unit(test.x[:16])
    with torch.no_grad():
        x_hat = model(few.to(device)).x_hat.cpu().clamp(0, 1)
    values = evaluate_vqvae(model, test.x)
    summary = (
        f"test MSE      {values['mse']:.5f}   (mean over pixels and channels in [0, 1])\n"
        f"perplexity    {values['perplexity']:.1f}   (counted over {values['tokens']:,} tokens)\n"
        f"active codes  {values['active_codes']}   (over the same window)\n"
        f"bits a picture  {values['bits_per_image']:.0f}   (its codes sent as they are)"
    )
    return Outcome(
        values,
        history.as_dict(),
        history.seconds,
        device_words(device),
        data_words(train, test),
        train.note,
        summary,
        (few, x_hat),
    )


def finished(stem: Path | None, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The result that `train_once` left under this name, or None if there is none yet.

    Raises:
        ValueError: there is one, of other settings.
    """
    path = stem and stem.with_name(f"{stem.name}.json")
    if path is None or not path.exists():
        return None
    result = json.loads(path.read_text())
    if result["settings"] != settings:
        raise ValueError(f"{path} belongs to other settings: delete it or give another folder")
    return result


def train_once(
    make: Callable[[], tuple[Model, Loss]],
    settings: dict[str, Any],
    x: Tensor,
    measured_on: Tensor,
    *,
    stem: Path | None,
    save_every: int = 500,
    log_every: int = 20,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model and measure it; take the result from `<stem>.json` if it is there already.

    Args:
        make: gives the untrained model and its loss; not called when the result is there.
        settings: all that the result depends on; steps, batch, lr and seed are used here.
        x: images to learn from.
        measured_on: images to measure on.
        stem: `<stem>.json` is the result, `<stem>.safetensors` the checkpoint; None keeps nothing.
        save_every: steps between checkpoints.
        log_every: steps between points of the history.
        progress: show a bar.
    Returns:
        {"settings", "values", "history", "seconds"}.
    Raises:
        ValueError: the folder holds a result of other settings.
    """
    result = finished(stem, settings)
    if result is not None:
        return result
    model, loss = make()
    history = fit(
        model,
        x,
        loss,
        steps=settings["steps"],
        batch_size=settings["batch"],
        lr=settings["lr"],
        seed=settings["seed"],
        checkpoint=stem and stem.with_name(f"{stem.name}.safetensors"),
        save_every=save_every,
        log_every=log_every,
        progress=progress,
    )
    result = {
        "settings": settings,
        "values": evaluate_vqvae(model, measured_on),
        "history": history.as_dict(),
        "seconds": history.seconds,
    }
    if stem is not None:
        atomic_write(stem.with_name(f"{stem.name}.json"), json.dumps(result).encode())
    return result


def patches(x: Tensor, size: int) -> Tensor:
    """Cut images (N, C, H, W) into squares that do not overlap, (N * H/size * W/size, C * size * size)."""
    if x.ndim != 4 or x.shape[2] % size or x.shape[3] % size:
        raise ValueError(f"x must be (N, C, H, W) with sides that {size} divides, got {tuple(x.shape)}")
    return unfold(to_unit(x), size, stride=size).transpose(1, 2).flatten(0, 1)


def run_rate_distortion(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None = None, progress: bool = True
) -> Outcome:
    """Print images with K patches, K = 2, 4, 8, ...: how many bits, how large an error?

    Beside them the opponents: mean colours, scalars on rotated axes, and patch codes whose names have a price.
    Errors are mean squared over pixels and channels; entropies are those of the codes of all test patches
    together.
    """
    s = settings
    train, test = images(s)
    began = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    pool = patches(train.x, s["patch"])
    pool = pool[torch.randperm(len(pool), generator=generator)[: s["sample"]]]  # (N, D)
    targets = patches(test.x, s["patch"])
    sizes = [2**i for i in range(1, int(math.log2(s["largest"])) + 1)]
    curves: dict[str, list[float]] = {
        name: [] for name in ("train_mse", "test_mse", "entropy_bits", "log2_codes", "bits_per_pixel", "psnr")
    }
    sheets = []
    for num_codes in bar(sizes, progress):
        found = kmeans(pool, num_codes, iterations=s["iterations"], generator=generator)
        codes = nearest_code(targets, found.centroids)
        sheets.append(_described(targets, codes[:, None], found.centroids[codes]))
        bits, error = sheets[-1].point()
        curves["train_mse"].append(found.distortion[-1] / pool.shape[1])
        curves["test_mse"].append(error)
        curves["entropy_bits"].append(bits)
        curves["log2_codes"].append(math.log2(num_codes))
        curves["bits_per_pixel"].append(bits / s["patch"] ** 2)
        curves["psnr"].append(-10 * math.log10(error))
    others = _opponents(pool, targets, found.centroids, train.x.shape[1], s["iterations"], generator)
    values = {
        f"{name}_{num_codes}": curves[name][i]
        for name in ("train_mse", "test_mse", "entropy_bits", "bits_per_pixel", "psnr")
        for i, num_codes in enumerate(sizes)
    }
    for name, other in others.items():
        bits, error = other.point()
        values |= {f"{name}_bits": bits, f"{name}_mse": error}
        if curves["entropy_bits"][0] <= bits <= curves["entropy_bits"][-1]:
            values[f"{name}_ratio"] = _ratio(other, sheets)
    ratios: dict[str, list[float]] = {name: [] for name in others if f"{name}_ratio" in values}
    a_picture = len(targets) // len(test.x)  # patches
    for _ in range(RESAMPLES):  # the bootstrap: whole pictures, drawn with replacement
        drawn = torch.randint(len(test.x), (len(test.x),), generator=generator)
        weights = torch.bincount(drawn, minlength=len(test.x)).double().repeat_interleave(a_picture)
        for name, ratio in ratios.items():
            ratio.append(_ratio(others[name], sheets, weights))
    values |= {f"{name}_ratio_bootstrap": float(np.std(ratio)) for name, ratio in ratios.items()}
    flat = targets.reshape(len(targets), train.x.shape[1], -1)
    values["mean_colour_mse"] = (flat - flat.mean(-1, keepdim=True)).square().mean().item()
    words = f"{data_words(train, test)}, patches of {s['patch']} x {s['patch']} pixels, {len(pool):,} for training"
    history = {"num_codes": sizes, **curves}
    return Outcome(
        values,
        history,
        time.perf_counter() - began,
        device_words(torch.device("cpu")),
        words,
        train.note,
        _rate_table(history) + "\n" + _opponents_table(values, list(others)),
    )


class _Described(NamedTuple):
    """Patches as a coder describes them: codes (N, n), each column named alone; squared error of a number (N,)."""

    codes: Tensor
    error: Tensor

    def point(self, weights: Tensor | None = None) -> tuple[float, float]:
        """Bits of a patch and mean squared error, each patch counted as often as `weights` (N,) says."""
        bits = sum(entropy_bits(torch.bincount(column, weights)).item() for column in self.codes.unbind(1))
        error = self.error.mean() if weights is None else self.error @ weights / weights.sum()
        return bits, error.item()


def _described(targets: Tensor, codes: Tensor, decoded: Tensor) -> _Described:
    used = (codes != codes[0]).any(0)  # a column of one level costs nothing
    return _Described(codes[:, used], (targets - decoded).double().square().mean(1))


def _ratio(other: _Described, sheets: list[_Described], weights: Tensor | None = None) -> float:
    """Error over that of patch codes at the same bits: log error, straight between the sheets."""
    bits, error = other.point(weights)
    curve = np.array([sheet.point(weights) for sheet in sheets])
    return error / math.exp(np.interp(bits, curve[:, 0], np.log(curve[:, 1])))


def _opponents(
    pool: Tensor, targets: Tensor, sheet: Tensor, channels: int, iterations: int, generator: torch.Generator
) -> dict[str, _Described]:
    """Other descriptions of the patches, by name."""
    found = {}
    for levels in COLOUR_LEVELS:  # the levels of a patch are named together
        colours = mean_colours(pool, levels, channels=channels, generator=generator)
        codes = nearest_code(targets, colours)
        found[f"colours_{levels}"] = _described(targets, codes[:, None], colours[codes])
    for price in PRICES:
        scalars = rotated_scalars(pool, price)
        levels_of = scalars.encode(targets)  # (N, D); each coordinate is named alone
        decoded = scalars.decode(levels_of)
        found[f"rotated_{price:g}"] = _described(targets, levels_of, decoded)
        together = torch.unique(levels_of, dim=0, return_inverse=True)[1]
        found[f"rotated_together_{price:g}"] = _described(targets, together[:, None], decoded)
    for price in (0.0, *PRICES):  # price 0: plain patch codes with as many iterations as the priced ones
        priced = priced_kmeans(pool, sheet, price, iterations=iterations)
        codes = priced.encode(targets)
        found[f"priced_{price:g}"] = _described(targets, codes[:, None], priced.decode(codes))
    return found


def _opponents_table(values: dict[str, float], names: list[str]) -> str:
    lines = [f"{'':24}{'H bits':>8}{'test MSE':>10}{'over patch codes':>18}"]
    for name in names:
        ratio = values.get(f"{name}_ratio")
        over = "" if ratio is None else f"{100 * ratio - 100:+.1f} %"
        lines.append(f"{name:24}{values[f'{name}_bits']:8.3f}{values[f'{name}_mse']:10.5f}{over:>18}")
    return "\n".join(lines)


def _rate_table(history: dict[str, list[float]]) -> str:
    lines = [f"{'K':>5}{'train MSE':>11}{'test MSE':>10}{'H bits':>8}{'log2 K':>8}{'bits/px':>9}{'PSNR':>7}"]
    for num_codes, train, test, bits, full, per_pixel, psnr in zip(*history.values(), strict=True):
        lines.append(
            f"{num_codes:5}{train:11.5f}{test:10.5f}{bits:8.3f}{full:8.0f}{per_pixel:9.4f}{psnr:7.2f}"
        )
    return "\n".join(lines)


def images(s: dict[str, Any]) -> tuple[data.ImageSet, data.ImageSet]:
    """Training and test images that the settings name: `data`, `n` and `n_test`."""
    train = data.load(s["data"], "train", n=s["n"])
    test = data.load(s["data"], "test", n=s["n_test"])
    if not isinstance(train, data.ImageSet) or not isinstance(test, data.ImageSet):
        raise ValueError(f"{s['data']!r} is a set of texts; this experiment needs images")
    return train, test


def data_words(train: data.ImageSet, test: data.ImageSet) -> str:
    """Name and sizes of both sets."""
    return f"{train.name}: {len(train):,} training and {len(test):,} test images"


def device_words(device: torch.device) -> str:
    """What the work ran on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"

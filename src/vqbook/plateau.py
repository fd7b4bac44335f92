"""Why one seed of GM-VQ's table stays behind: its initial weights, its first codes, or the order of the images?

Chapter 8. A run of VQ-VAE with a k-means start begins with three draws, all made from its seed. Here one of them at a
time is made from another seed. During training the error is taken apart into what gray pictures could mend and what
they could not. Models are measured on held-out training images.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqbook.experiments import Outcome, device_words, train_once
from vqbook.remedies import kmeans_start, split
from vqbook.results import Ledger
from vqbook.table1 import PROFILES, ROWS, Knobs, build
from vqbook.train import Loss, pick_device, to_unit
from vqbook.vqvae import VQVAE

TABLE = "gmvq-table1-cifar10-read"  # whose settings the rows have
DRAWS = ("weights", "codes", "order")
OTHERS = (100, 101)  # seeds, of which no run of the table was made
ROW = "kmeans"  # the simplest row with that start
PLATEAU: dict[str, dict[str, Any]] = PROFILES


def colour_error(x: Tensor, x_hat: Tensor) -> Tensor:
    r"""The part of the MSE that is of colour: what the channels of a pixel's error do not share.

    $\overline{e^2} = \overline{\bar e^2} + \overline{(e - \bar e)^2}$ with $\bar e$ the mean over a pixel's channels;
    this is the second term. A gray picture has all of the image's own colour in it.

    Args:
        x, x_hat: (..., C, H, W) in [0, 1].
    Returns:
        A scalar, mean over pixels and channels.

    Chapter 8.
    """
    error = x - x_hat
    return (error - error.mean(-3, keepdim=True)).square().mean()


def watched(loss: Loss) -> Loss:
    """A loss that logs the colour error, too."""

    def total(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        caught: list[Tensor] = []
        handle = model.get_submodule("decoder").register_forward_hook(
            lambda _m, _i, x_hat: caught.append(x_hat)
        )
        try:
            value, terms = loss(model, x)
        finally:
            handle.remove()
        return value, {**terms, "colour_error": colour_error(x, caught[0].detach())}

    return total


def made(s: dict[str, Any], x: Tensor, seeds: dict[str, int], knobs: Knobs) -> tuple[VQVAE, Loss]:
    """The untrained model, its weights and its first codes from seeds of their own, and its loss."""
    model = build(ROW, s, x, seeds["weights"], knobs)
    if seeds["codes"] != seeds["weights"]:
        kmeans_start(model, x[: 2 * s["codes"]], seeds["codes"])
    return model, watched(ROWS[ROW].loss(knobs))


def run_plateau(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None, progress: bool = True
) -> Outcome:
    """Train from the seed's own start and from starts of which one draw is another; measure on held-out images."""
    train, held, test = split(settings)
    chosen = Ledger().load(TABLE)["runs"][0]["values"]
    knobs = {knob: chosen[f"{ROW}_{knob}"] for knob in ROWS[ROW].trials[0]}
    own = {draw: seed for draw in DRAWS}
    starts = {"own": own} | {f"{draw}_{other}": {**own, draw: other} for draw in DRAWS for other in OTHERS}
    values: dict[str, float] = {"colour": colour_error(to_unit(held), torch.zeros(())).item()}
    history: dict[str, Any] = {}
    seconds, lines = 0.0, [f"{'':14}{'MSE':>9}{'perplexity':>12}"]
    for name, seeds in starts.items():
        result = train_once(
            partial(made, settings, train, seeds, knobs),
            {**settings, **knobs, "row": ROW, **seeds, "seed": seeds["order"]},
            train,
            held,
            stem=checkpoint.parent / f"{ROW}_{name}" if checkpoint else None,
            progress=progress,
        )
        v, h = result["values"], result["history"]
        values |= {f"{name}_{metric}": v[metric] for metric in ("mse", "perplexity")}
        kept = {term: h["terms"][term] for term in ("reconstruction", "colour_error")}
        history[name] = {"step": h["step"], "terms": kept}
        seconds += result["seconds"]
        lines.append(f"{name:14}{v['mse']:9.5f}{v['perplexity']:12.1f}")
    words = f"{test.name}: {len(train):,} training and {len(held):,} other training images"
    return Outcome(values, history, seconds, device_words(pick_device()), words, test.note, "\n".join(lines))

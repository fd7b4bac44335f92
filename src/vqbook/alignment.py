r"""Gradients through one choice of a trained VQ-VAE, held against the exact one that enumeration gives. Chapter 5.

At one position of one image the code is drawn with probability
$q_k \propto \exp(-\lVert z_e - e_k \rVert^2 / 2\sigma^2)$, every other position keeps its nearest code, and the loss is
the squared error of the whole image. With K decoder calls the gradient of the expected loss with respect to the
encoder's vector is known, and estimators can be compared with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, one_hot

from vqbook.estimators import exact_gradient, gumbel_softmax_gradient, leave_one_out, straight_through_gumbel
from vqbook.experiments import Outcome, device_words, images, train_vqvae
from vqbook.quantizers import VectorQuantizer, rotation_trick, straight_through
from vqbook.train import to_unit
from vqbook.vqvae import VQVAE

ALIGNMENT: dict[str, dict[str, Any]] = {  # chapter 5
    "smoke": dict(
        data="glyphs", n=256, n_test=16, hidden=16, dim=8, codes=16, steps=80, batch=32, lr=3e-3, samples=8,
        widths=[0.5, 1.0],
    ),
    "read": dict(
        data="cifar10", n=10_000, n_test=64, hidden=32, dim=16, codes=64, steps=1_500, batch=64, lr=1e-3,
        samples=64, widths=[0.25, 0.5, 1.0, 2.0],
    ),
    "full": dict(
        data="cifar10", n=50_000, n_test=512, hidden=64, dim=16, codes=512, steps=10_000, batch=64, lr=1e-3,
        samples=256, widths=[0.125, 0.25, 0.5, 1.0, 2.0],
    ),
}  # fmt: skip


class Cells(NamedTuple):
    """One position of each of P images.

    Attributes:
        z: the encoder's vectors there, (P, D).
        codebook: (K, D).
        loss: squared error of the image when the decoder receives a vector there, (..., P, D) -> (..., P).
        values: the loss of each code, (P, K).
        slopes: gradient of the loss at each code, (P, K, D).
    """

    z: Tensor
    codebook: Tensor
    loss: Callable[[Tensor], Tensor]
    values: Tensor
    slopes: Tensor


def look_at(model: VQVAE, x: Tensor, generator: torch.Generator) -> Cells:
    """Choose a random position in each image and try every code there: K decoder calls, forward and backward.

    Args:
        model: with the chapter 3 quantiser.
        x: images in [0, 1], (P, C, H, W).
        generator: chooses the positions.
    """
    with torch.no_grad():
        out = model(x)
        quantized = out.quantized.z_q  # (P, h, w, D)
    P, h, w, D = quantized.shape
    at = torch.randint(h * w, (P,), generator=generator).to(x.device)
    here = one_hot(at, h * w).reshape(P, h, w, 1).bool()
    quantizer = cast(VectorQuantizer, model.quantizer)
    codebook = quantizer.effective_codebook().detach()

    def loss(v: Tensor) -> Tensor:
        grid = torch.where(here, v[..., None, None, :], quantized)  # (..., P, h, w, D)
        x_hat = model.decoder(grid.flatten(0, -4).movedim(-1, 1)).unflatten(0, grid.shape[:-3])
        return (x_hat - x).square().sum((-3, -2, -1))

    values, slopes = [], []
    for code in codebook:
        v = code.expand(P, D).clone().requires_grad_()
        value = loss(v)
        slopes.append(torch.autograd.grad(value.sum(), v)[0])
        values.append(value.detach())
    z = out.z_e.flatten(1, 2)[torch.arange(P), at]
    return Cells(z, codebook, loss, torch.stack(values, 1), torch.stack(slopes, 1))


def distances(cells: Cells) -> Tensor:
    """Squared distance of each vector to each code, (P, K)."""
    return (cells.z.unsqueeze(-2) - cells.codebook).square().sum(-1)


def logits(cells: Cells, width: float) -> Tensor:
    """Log-probabilities of the codes up to a constant, (P, K).

    Args:
        cells: from `look_at`.
        width: sigma, in units of the root mean squared distance to the nearest code.
    """
    table = distances(cells)
    return -table / (2 * width**2 * table.min(-1).values.mean())


def to_vector(cells: Cells, gradient: Tensor, width: float) -> Tensor:
    r"""Chain rule from logits (..., P, K) to the encoder's vector (..., P, D).

    $\frac{1}{\sigma^2} \sum_k g_k (e_k - z)$; the entries of such a g sum to zero, so the term in z drops out.
    """
    return gradient @ cells.codebook / (width**2 * distances(cells).min(-1).values.mean())


def gradients(cells: Cells, width: float, generator: torch.Generator, samples: int) -> dict[str, Tensor]:
    """Gradients with respect to the encoder's vector: the exact one, (P, D), and estimates, (S, P, D).

    The score function and straight-through Gumbel visit codes only, so they read the table of `look_at`;
    Gumbel-Softmax visits mixtures of codes and needs the decoder. The other three use the slope at the nearest
    code and are deterministic (S = 1): copied, rotated, or through the Jacobian of the mean code.
    """
    scores, book = logits(cells, width), cells.codebook

    def inside(y: Tensor) -> Tensor:  # mixtures: one decoder call for each
        return torch.stack([cells.loss(one @ book) for one in y])

    def corners(y: Tensor) -> Tensor:  # value and slope of the loss at the corner, from the table
        slope = torch.einsum("...pk,pkd,jd->...pj", y.detach(), cells.slopes, book)
        return (y.detach() * cells.values).sum(-1) + ((y - y.detach()) * slope).sum(-1)

    found = {
        "leave one out": leave_one_out(corners, scores, generator, samples, group=4),
        "Gumbel-Softmax": gumbel_softmax_gradient(inside, scores, generator, samples),
        "straight-through Gumbel": straight_through_gumbel(corners, scores, generator, samples),
    }
    found = {name: to_vector(cells, g, width) for name, g in found.items()}
    nearest = scores.argmax(-1)
    arriving = cells.slopes[torch.arange(len(nearest)), nearest]  # (P, D)
    for name, rule in (("straight through", straight_through), ("rotation trick", rotation_trick)):
        z = cells.z.clone().requires_grad_()
        (g,) = torch.autograd.grad((rule(z, book[nearest]) * arriving).sum(), z)
        found[name] = g.unsqueeze(0)
    along = arriving @ book.T  # (P, K), the slope at the nearest code, in the direction of every code
    q = scores.softmax(-1)
    soft = q * (along - (q * along).sum(-1, keepdim=True))
    found["through the softmax"] = to_vector(cells, soft, width).unsqueeze(0)
    exact = exact_gradient(lambda y: (y * cells.values).sum(-1), scores)
    return {"exact": to_vector(cells, exact, width), **found}


def share_inside(cells: Cells, directions: int = 3) -> tuple[float, float]:
    """Share of the codebook's variance in its leading directions, and share of the copied gradient's square there.

    Args:
        cells: from `look_at`.
        directions: how many principal directions of the codebook.
    Returns:
        Share of the variance, and mean over positions of the share of the squared slope at the nearest code.
    """
    centred = cells.codebook - cells.codebook.mean(0)
    _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
    nearest = distances(cells).argmin(-1)
    arriving = cells.slopes[torch.arange(len(nearest)), nearest]  # (P, D)
    inside = (arriving @ axes[:directions].T).square().sum(-1) / arriving.square().sum(-1)
    energy = spread.square()
    return (energy[:directions].sum() / energy.sum()).item(), inside.mean().item()


def run_alignment(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None, progress: bool = True
) -> Outcome:
    """Train a small VQ-VAE, then compare each estimator's direction with the exact gradient, for several sigma."""
    s = settings
    train, test = images(s)
    began = time.perf_counter()
    model, _ = train_vqvae(s, train.x, seed=seed, checkpoint=checkpoint, progress=progress)
    values, history = measure_alignment(model, to_unit(test.x), s["widths"], s["samples"], seed)
    rows = []
    for name in history["estimators"]:
        pairs = zip(history[f"one: {name}"], history[f"mean: {name}"], strict=True)
        rows.append(f"{name:24}" + "  ".join(f"{one:5.2f} / {mean:5.2f}" for one, mean in pairs))
    summary = "\n".join(
        ["cosine with the exact gradient, of one estimate / of their mean, a column a sigma", *rows]
    )
    device = next(model.parameters()).device
    words = f"{train.name}: {len(train):,} training images, one position in each of {len(test):,} test images"
    return Outcome(
        values, history, time.perf_counter() - began, device_words(device), words, train.note, summary
    )


def measure_alignment(
    model: VQVAE, x: Tensor, widths: list[float], samples: int, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Cosines with the exact gradient and lengths relative to it, averaged over positions; curves over the widths."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    cells = look_at(model.eval(), x.to(device), generator)
    variance, slope = share_inside(cells)
    values = {"variance_in_three": variance, "slope_in_three": slope}
    history: dict[str, Any] = {"widths": widths, "entropy": []}
    for width in widths:
        log_q = logits(cells, width).double().log_softmax(-1)
        entropy = -(log_q.exp() * log_q).sum(-1)
        history["entropy"].append(entropy.mean().item())
        found = gradients(cells, width, generator, samples)
        exact = found.pop("exact")
        history["estimators"] = list(found)
        for name, g in found.items():
            one = cosine_similarity(g, exact.expand_as(g), dim=-1).mean().item()
            mean = cosine_similarity(g.mean(0), exact, dim=-1).mean().item()
            length = (
                (g.mean(0).norm(dim=-1).log() - exact.norm(dim=-1).clamp_min(1e-30).log())
                .median()
                .exp()
                .item()
            )
            for what, number in (("one", one), ("mean", mean), ("length", length)):
                history.setdefault(f"{what}: {name}", []).append(number)
                values[f"{what}_{name.replace(' ', '_')}_w{width:g}"] = number
    return values, history

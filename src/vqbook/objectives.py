"""Objectives as pure functions: chapters, tests and exercises call exactly these."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from vqbook.vqvae import VQVAEOutput


def vqvae_terms(x: Tensor, out: VQVAEOutput) -> dict[str, Tensor]:
    r"""The terms of the VQ-VAE objective, by name and without weights.

    $L = \lVert x - \hat x \rVert^2 + \lVert \mathrm{sg}[z_e] - e \rVert^2
    + \beta \lVert z_e - \mathrm{sg}[e] \rVert^2$, each square averaged over its entries.

    The training loop adds them up and holds β, called commit_weight.

    Args:
        x: images in [0, 1], (B, C, H, W).
        out: what the model made of them.
    Returns:
        {"reconstruction", "codebook", "commitment"}, or whatever terms the quantizer names, scalars.
    Raises:
        ValueError: the reconstruction has another shape than x.

    van den Oord et al., 2017, equation 3; chapter 3.
    """
    if x.shape != out.x_hat.shape:
        raise ValueError(f"x is {tuple(x.shape)} but its reconstruction is {tuple(out.x_hat.shape)}")
    return {"reconstruction": mse_loss(out.x_hat, x), **out.quantized.terms}


def sqvae_terms(x: Tensor, out: VQVAEOutput) -> dict[str, Tensor]:
    r"""The terms of the SQ-VAE objective, in nats for an image; none has a weight to choose.

    reconstruction: $\frac{M}{2} \log \frac1B \sum_b \lVert x_b - \hat x_b \rVert^2$, M pixels times channels. It is
    the negative Gaussian log-likelihood at the variance of the pixels that fits best, without its constants: the
    variance need not be learned. negative_entropy and distance come from SQVAEQuantizer.

    Args:
        x: images in [0, 1], (B, C, H, W).
        out: what a VQVAE with an SQVAEQuantizer made of them.
    Returns:
        {"reconstruction", "negative_entropy", "distance"}, scalars.
    Raises:
        ValueError: the reconstruction has another shape than x, or the quantizer names other terms.

    Takida et al., 2022; chapter 5.
    """
    if set(out.quantized.terms) != {"negative_entropy", "distance"}:
        raise ValueError(f"expected the terms of SQVAEQuantizer, got {sorted(out.quantized.terms)}")
    error = vqvae_terms(x, out)["reconstruction"] * x[0].numel()  # summed over an image
    return {"reconstruction": x[0].numel() / 2 * error.log(), **out.quantized.terms}


def sqvae_loss(x: Tensor, out: VQVAEOutput) -> Tensor:
    """The sum of sqvae_terms: what SQ-VAE minimises, a scalar. Takida et al., 2022; chapter 5."""
    return torch.stack(list(sqvae_terms(x, out).values())).sum()

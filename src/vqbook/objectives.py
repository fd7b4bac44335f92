"""Objectives as pure functions: chapters, tests and exercises call exactly these."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

if TYPE_CHECKING:  # vqbook.vqvae imports the quantizers, and those this module
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


def categorical_kl(q: Tensor, log_prior: Tensor) -> Tensor:
    r"""$\mathrm{KL}(q \Vert p) = \sum_k q_k (\log q_k - \log p_k)$, (..., K), (K,) -> (...), nats. Chapter 2."""
    tiny = torch.finfo(q.dtype).tiny  # where q is zero so is the summand, and its gradient is finite
    return (q * (q.clamp_min(tiny).log() - log_prior)).sum(-1)


def latent_kl(variance: Tensor, sigma_z: float, dim: int) -> Tensor:
    r"""KL between two isotropic Gaussians with one mean, for each entry of `variance`.

    $\mathrm{KL}\bigl(\mathcal N(\mu, sI) \Vert \mathcal N(\mu, \sigma_z^2 I)\bigr)
    = \frac D2 \Bigl(\frac{s}{\sigma_z^2} - 1 - \log\frac{s}{\sigma_z^2}\Bigr)$

    Args:
        variance: s, any shape; below 1e-12 it counts as 1e-12, as the divergence has no limit at 0.
        sigma_z: $\sigma_z$.
        dim: D.
    Returns:
        Nats, the shape of `variance`; nothing is summed or averaged.

    Yan et al., 2024; chapter 6.
    """
    ratio = variance.clamp_min(1e-12) / sigma_z**2
    return dim / 2 * (ratio - 1 - ratio.log())


def code_kl(log_q: Tensor, log_prior: Tensor) -> Tensor:
    r"""The ELBO's code term, $\frac1M \sum_m \mathrm{KL}\bigl(q(c \mid x_m) \Vert p(c)\bigr)$.

    Args:
        log_q: normalised, (..., K); its M rows are averaged over.
        log_prior: (K,).
    Returns:
        Nats per position, a scalar.

    Chapter 7.
    """
    return (log_q.exp() * (log_q - log_prior)).sum(-1).mean()


def aggregate_kl(log_q: Tensor, log_prior: Tensor) -> Tensor:
    r"""ALBO's code term, $\mathrm{KL}\bigl(\hat q_B(c) \Vert p(c)\bigr)$ with the mean of the rows, $\hat q_B$.

    Args:
        log_q: normalised, (..., K); one divergence is taken, of the mean of its M rows.
        log_prior: (K,).
    Returns:
        Nats per position, a scalar.

    Yan et al., 2024; chapter 7.
    """
    return categorical_kl(log_q.exp().reshape(-1, log_q.shape[-1]).mean(0), log_prior)


def mutual_information(log_q: Tensor) -> Tensor:
    r"""What a code tells about its row: $I = H(\hat q_B) - \frac1M \sum_m H\bigl(q(c \mid x_m)\bigr)$.

    Args:
        log_q: normalised, (..., K), M rows of equal weight.
    Returns:
        Nats, a scalar between 0 and log min(K, M).

    Chapters 2 and 7.
    """
    zero = log_q.new_zeros(log_q.shape[-1])
    return code_kl(log_q, zero) - aggregate_kl(log_q, zero)


def elbo(log_likelihood: Tensor, latent_kl: Tensor, log_q: Tensor, log_prior: Tensor) -> Tensor:
    """The evidence lower bound: albo_lambda with λ = 0. Chapters 6 and 7."""
    return albo_lambda(log_likelihood, latent_kl, log_q, log_prior, lam=0.0)


def albo(log_likelihood: Tensor, latent_kl: Tensor, log_q: Tensor, log_prior: Tensor) -> Tensor:
    """The objective of GM-VQ, with the whole latent KL: albo_lambda with λ = 1. Yan et al., 2024; chapter 7."""
    return albo_lambda(log_likelihood, latent_kl, log_q, log_prior, lam=1.0)


def albo_lambda(
    log_likelihood: Tensor, latent_kl: Tensor, log_q: Tensor, log_prior: Tensor, lam: float
) -> Tensor:
    r"""$J_\lambda = \mathrm{ELBO} + \lambda\,I_q(x; c)$: a bound on the log evidence for λ ≤ 0, ALBO at λ = 1.

    Args:
        log_likelihood: $\mathbb E_q[\log p(x \mid z)]$ in nats for each position, any shape; averaged.
        latent_kl: $\mathbb E_q\,\mathrm{KL}(q(z \mid x,c) \Vert p(z \mid c))$ for each position, any shape; averaged.
        log_q: normalised, (..., K), M rows of equal weight.
        log_prior: (K,).
        lam: λ.
    Returns:
        Nats per position, a scalar, to be made large.

    Chapter 7.
    """
    bound = log_likelihood.mean() - latent_kl.mean() - code_kl(log_q, log_prior)
    return bound + lam * mutual_information(log_q)


def miller_madow(counts: Tensor) -> Tensor:
    r"""Entropy of code frequencies, its bias corrected: $\hat H + \frac{K_+ - 1}{2 N}$, $K_+$ codes that occur.

    The plain entropy of N tokens is too low by about that much. For reporting; not part of an objective.

    Args:
        counts: how often each code occurs, (..., K).
    Returns:
        Nats, float64, (...); it may exceed log K.

    Miller, 1955; chapters 1 and 7.
    """
    counts = counts.double()
    total = counts.sum(-1, keepdim=True)
    plain = torch.special.entr(counts / total).sum(-1)
    return plain + ((counts > 0).sum(-1) - 1) / (2 * total.squeeze(-1))


def aggregate_bias(log_q: Tensor) -> Tensor:
    r"""How much aggregate_kl of M rows exceeds that of all data: $\frac{1}{2M}\sum_k \mathrm{Var}(q_k)/\bar q_k$.

    The first order in 1/M, for rows drawn independently; for one-hot rows that use all K codes it is Miller's and
    Madow's $(K-1)/2M$.

    Args:
        log_q: normalised, (..., K), M rows.
    Returns:
        Nats, a scalar.

    Chapter 7.
    """
    q = log_q.exp().reshape(-1, log_q.shape[-1])
    tiny = torch.finfo(q.dtype).tiny
    return (q.var(0, correction=0) / q.mean(0).clamp_min(tiny)).sum() / (2 * len(q))


GMVQ_TERMS = ("distance", "latent_kl", "aggregate_kl", "code_kl")  # of GaussianMixtureQuantizer


def gmvq_terms(x: Tensor, out: VQVAEOutput) -> dict[str, Tensor]:
    """Reconstruction (mean squared error) and what GaussianMixtureQuantizer names, unweighted scalars.

    Args:
        x: images in [0, 1], (B, C, H, W).
        out: what a VQVAE with a GaussianMixtureQuantizer made of them.
    Raises:
        ValueError: the reconstruction has another shape than x, or the quantizer names other terms.

    Chapter 8.
    """
    if not set(out.quantized.terms) <= set(GMVQ_TERMS):
        raise ValueError(f"expected the terms of GaussianMixtureQuantizer, got {sorted(out.quantized.terms)}")
    return vqvae_terms(x, out)


def gmvq_loss(
    x: Tensor, out: VQVAEOutput, *, beta: float, gamma: float = 0.0, latent: float = 0.0, lam: float = 1.0
) -> Tensor:
    r"""What GM-VQ minimises, and the one place where its weights and reductions are defined.

    The objective of an image with N positions and M numbers (pixels times channels) is

    $\lVert x - \hat x \rVert^2 + N \bigl(\gamma\,d + \kappa\,\mathrm{KL}_z + \beta\,\mathrm{KL}_c\bigr),$

    squared error summed over the M numbers, and in the bracket means over positions: d is "distance", $\mathrm{KL}_z$
    "latent_kl" and $\mathrm{KL}_c = (1 - \lambda)$ "code_kl" $+\,\lambda$ "aggregate_kl", so that the code term is
    that of $J_\lambda$. All is divided by M, hence the returned loss is the mean squared error plus the bracket times
    N / M. It is $-2\sigma_x^2 J_\lambda / M$ up to a constant with $\kappa = \beta = 2\sigma_x^2$ and γ = 0 (the whole
    latent KL), or κ = 0 and $\gamma = \sigma_x^2 / 2\sigma^2\sigma_z^2$ for $W = I$ (its entropy dropped).

    Args:
        x: images in [0, 1], (B, C, H, W).
        out: what a VQVAE with a GaussianMixtureQuantizer made of them. Terms with weight zero need not be there.
        beta: β, weight of the code term.
        gamma: γ, weight of the distance to the means.
        latent: κ, weight of the latent KL.
        lam: λ; 1 is ALBO, 0 the ELBO.
    Returns:
        A scalar.
    Raises:
        ValueError: shapes that differ, or a term that has a weight and was not computed.

    Yan et al., 2024; chapter 8.
    """
    terms = gmvq_terms(x, out)
    weights = {
        "distance": gamma,
        "latent_kl": latent,
        "aggregate_kl": beta * lam,
        "code_kl": beta * (1 - lam),
    }
    missing = [name for name, weight in weights.items() if weight and name not in terms]
    if missing:
        raise ValueError(f"give the quantizer terms={tuple(missing)} as well: they have weights")
    positions, numbers = math.prod(out.z_e.shape[1:-1]), x[0].numel()
    loss = terms["reconstruction"]
    for name, weight in weights.items():
        if weight:
            loss = loss + weight * positions / numbers * terms[name]
    return loss

"""The Gaussian variational autoencoder and the bounds on the evidence that it is trained and judged by.

Shapes: B images, D latent dimensions, k samples of the latent; logarithms are natural.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqbook.nets import Decoder, Encoder

LOG_2PI = math.log(2 * math.pi)


def gaussian_log_density(x: Tensor, mean: Tensor | float = 0.0, log_var: Tensor | float = 0.0) -> Tensor:
    r"""Log density of independent Gaussians, summed over the last axis.

    $\log \mathcal{N}(x; m, v) = -\tfrac12 \sum_i \bigl( (x_i - m_i)^2 / v_i + \log 2 \pi v_i \bigr)$

    Args:
        x: where, (..., D).
        mean, log_var: m and $\log v$, broadcast against x.
    Returns:
        (...), in nats.

    Chapter 2.
    """
    log_var = torch.as_tensor(log_var, dtype=x.dtype, device=x.device)
    return -0.5 * ((x - mean).square() * (-log_var).exp() + log_var + LOG_2PI).sum(-1)


def gaussian_kl(
    mean: Tensor, log_var: Tensor, prior_mean: Tensor | float = 0.0, prior_log_var: Tensor | float = 0.0
) -> Tensor:
    r"""Divergence of one Gaussian with independent coordinates from another, by default from N(0, I).

    $\mathrm{KL} = \tfrac12 \sum_i \bigl( r_i - 1 - \log r_i + (m_i - m'_i)^2 / v'_i \bigr)$ with
    $r_i = v_i / v'_i$.

    Args:
        mean, log_var: m and $\log v$ of the first, (..., D).
        prior_mean, prior_log_var: m' and $\log v'$ of the second, broadcast against them.
    Returns:
        (...), in nats, never negative.
    Raises:
        ValueError: mean and log_var have different shapes.

    Kingma and Welling, 2014, appendix B; chapter 2.
    """
    if mean.shape != log_var.shape:
        raise ValueError(f"mean is {tuple(mean.shape)} but log_var is {tuple(log_var.shape)}")
    prior_log_var = torch.as_tensor(prior_log_var, dtype=mean.dtype, device=mean.device)
    log_ratio = log_var - prior_log_var
    moved = (mean - prior_mean).square() * (-prior_log_var).exp()
    return 0.5 * (log_ratio.expm1() - log_ratio + moved).sum(-1)


def reparameterise(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    r"""Draw from a Gaussian as a differentiable function of its mean and variance.

    $z = m + \sqrt{v}\, \varepsilon$ with $\varepsilon \sim \mathcal{N}(0, I)$

    Args:
        mean, log_var: (..., D).
        noise: $\varepsilon$, (..., D), with any leading axes more, one for each draw.
    Returns:
        As the noise.

    Kingma and Welling, 2014, section 2.4; chapter 2.
    """
    return mean + (0.5 * log_var).exp() * noise


def importance_weighted_bound(log_w: Tensor) -> Tensor:
    r"""The logarithm of an average of weights, whose expectation is a lower bound on the log evidence.

    $\log \frac1k \sum_{i=1}^k w_i$, with $w_i = p(x, z_i) / q(z_i \mid x)$; with k = 1 it is the ELBO.

    Args:
        log_w: $\log w_i$, samples first, (k, ...).
    Returns:
        (...), in nats.
    Raises:
        ValueError: there is no sample.

    Burda et al., 2016, equation 8; chapter 2.
    """
    if log_w.ndim == 0 or len(log_w) == 0:
        raise ValueError(f"log_w must hold at least one sample, (k, ...), got {tuple(log_w.shape)}")
    return log_w.logsumexp(0) - math.log(len(log_w))


class Surgery(NamedTuple):
    """The two parts of an average divergence: average_kl = mutual_information + marginal_kl.

    Attributes:
        average_kl: $\\mathbb{E}_x \\mathrm{KL}(q(c \\mid x) \\Vert p(c))$.
        mutual_information: $I_q(x; c)$, what the code tells about which x it came from.
        marginal_kl: $\\mathrm{KL}(\\bar q(c) \\Vert p(c))$, how far the aggregated posterior is from the prior.
    """

    average_kl: Tensor
    mutual_information: Tensor
    marginal_kl: Tensor


def elbo_surgery(q: Tensor, prior: Tensor) -> Surgery:
    r"""Split the average KL of a discrete posterior into a mutual information and a marginal KL.

    $\frac1N \sum_n \mathrm{KL}(q(c \mid x_n) \Vert p(c)) = I_q(x; c) + \mathrm{KL}(\bar q(c) \Vert p(c))$

    Args:
        q: posteriors $q(c \mid x_n)$ of N equally likely x, (N, K), rows sum to one.
        prior: $p(c)$, (K,), positive wherever q is.
    Returns:
        Surgery, in nats.
    Raises:
        ValueError: the shapes do not fit, or a row is no distribution.

    Hoffman and Johnson, 2016; chapter 2.
    """
    if q.ndim != 2 or prior.shape != q.shape[1:]:
        raise ValueError(f"q must be (N, K) and prior (K,), got {tuple(q.shape)} and {tuple(prior.shape)}")
    for name, rows in (("a row of q", q), ("prior", prior)):
        if (rows < 0).any() or not torch.allclose(rows.sum(-1), torch.ones_like(rows.sum(-1)), atol=1e-4):
            raise ValueError(f"{name} is no distribution: entries must be at least 0 and sum to 1")
    average = q.mean(0)  # (K,), the aggregated posterior

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (torch.special.xlogy(a, a) - torch.special.xlogy(a, b)).sum(-1)

    return Surgery(kl(q, prior).mean(), kl(q, average).mean(), kl(average, prior))


class VAEOutput(NamedTuple):
    """What a VAE makes of a batch.

    Attributes:
        x_hat: mean of $p(x \\mid z)$ at the drawn z, (B, C, H, W).
        z: one draw for each image, (B, D).
        mean, log_var: of $q(z \\mid x)$, (B, D).
    """

    x_hat: Tensor
    z: Tensor
    mean: Tensor
    log_var: Tensor


class VAE(nn.Module):
    r"""A Gaussian VAE: $p(z) = \mathcal{N}(0, I)$, $p(x \mid z) = \mathcal{N}(\mathrm{dec}(z), \sigma^2 I)$,
    $q(z \mid x) = \mathcal{N}(m(x), \mathrm{diag}\, v(x))$.

    Args:
        encoder: (B, C, H, W) -> (B, 2 D), the mean followed by the log variance.
        decoder: (B, D) -> (B, C, H, W).
        sigma: standard deviation of a pixel around the decoder's output, one for all, where learning starts.
            To hold it there: `model.log_sigma.requires_grad_(False)`.

    Kingma and Welling, 2014; Rezende et al., 2014; chapter 2.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, sigma: float = 0.3) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.encoder, self.decoder = encoder, decoder
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log variance of q(z | x), (B, D) each."""
        mean, log_var = self.encoder(x).chunk(2, -1)
        return mean, log_var

    def forward(self, x: Tensor) -> VAEOutput:
        """Images (B, C, H, W) -> VAEOutput, with one draw of z for each."""
        mean, log_var = self.encode(x)
        z = reparameterise(mean, log_var, torch.randn_like(mean))
        return VAEOutput(self.decoder(z), z, mean, log_var)

    def log_likelihood(self, x: Tensor, x_hat: Tensor) -> Tensor:
        r"""$\log p(x \mid z)$ of whole images: summed over pixels, not averaged.

        Args:
            x: images, (B, C, H, W).
            x_hat: the decoder's output, of the same shape.
        Returns:
            (B,), in nats.
        """
        if x.shape != x_hat.shape:
            raise ValueError(f"x is {tuple(x.shape)} but its reconstruction is {tuple(x_hat.shape)}")
        return gaussian_log_density(x.flatten(1), x_hat.flatten(1), 2 * self.log_sigma)

    def elbo_terms(self, x: Tensor) -> dict[str, Tensor]:
        r"""The two parts of the bound: ELBO = log_likelihood - kl.

        $\mathbb{E}_{q}[\log p(x \mid z)]$, from one draw, and
        $\mathrm{KL}(q(z \mid x) \Vert p(z))$, exact.

        Args:
            x: images in [0, 1], (B, C, H, W).
        Returns:
            {"log_likelihood", "kl"}, each (B,), in nats for a whole image.
        """
        out = self(x)
        return {
            "log_likelihood": self.log_likelihood(x, out.x_hat),
            "kl": gaussian_kl(out.mean, out.log_var),
        }

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        r"""$\log w_i = \log p(x, z_i) - \log q(z_i \mid x)$ for draws $z_i$ from q(z | x).

        Args:
            x: images, (B, C, H, W).
            samples: k.
        Returns:
            (k, B), in nats; `importance_weighted_bound` makes a bound of them.
        """
        mean, log_var = self.encode(x)
        rows = []
        for _ in range(samples):
            z = reparameterise(mean, log_var, torch.randn_like(mean))
            joint = self.log_likelihood(x, self.decoder(z)) + gaussian_log_density(z)
            rows.append(joint - gaussian_log_density(z, mean, log_var))
        return torch.stack(rows)


def image_vae(channels: int, size: int, *, hidden: int = 32, dim: int = 16, sigma: float = 0.3) -> VAE:
    """A convolutional VAE with one latent vector for a whole image.

    Args:
        channels: of the image.
        size: height and width, a multiple of four.
        hidden: channels inside.
        dim: D, the length of z.
        sigma: as in VAE.
    Raises:
        ValueError: size is not a multiple of four.
    """
    if size < 4 or size % 4:
        raise ValueError(f"size must be a multiple of 4, got {size}")
    grid, features = size // 4, hidden * (size // 4) ** 2
    encoder = nn.Sequential(
        Encoder(channels, hidden=hidden, dim=hidden, res_blocks=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(features, 2 * dim),
    )
    decoder = nn.Sequential(
        nn.Linear(dim, features),
        nn.Unflatten(1, (hidden, grid, grid)),
        Decoder(channels, hidden=hidden, dim=hidden, upsample=2, res_blocks=1),
    )
    return VAE(encoder, decoder, sigma)

"""Proofs of chapter 8: the loss as trained, its entropies, aggregates of groups, bits of a number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proofs import largest, proof
from vqbook.gmvq_study import grouped_kl
from vqbook.objectives import aggregate_kl, code_kl, gmvq_loss, mutual_information
from vqbook.quantizers import GaussianMixtureQuantizer
from vqbook.vqvae import VQVAEOutput

MODELS = 20


def posteriors(*shape: int) -> Tensor:
    """Random log-probabilities over the last axis, from flat to sharp."""
    return (4 * torch.rand(()) * torch.randn(*shape)).log_softmax(-1)


def uniform(K: int) -> Tensor:
    return torch.full((K,), -math.log(K))


def entropy(q: Tensor) -> Tensor:
    return torch.special.entr(q).sum(-1)


@proof("eq-gv-loss", kind="random models", tolerance=1e-5)
def loss_as_trained() -> float:
    """The loss of random images and a random quantizer, written out from distances, weights and posteriors for each
    position, against gmvq_loss on what the quantizer returns; relative error in single precision."""
    errors = []
    for lam in (0.0, 0.7, 1.0, 2.0):
        for _ in range(5):
            quantizer = GaussianMixtureQuantizer(
                6, 4, spread=8, terms=("distance", "aggregate_kl", "code_kl")
            ).float()
            x, x_hat = torch.rand(2, 3, 3, 8, 8).float()
            z_e = torch.randn(3, 2, 2, 4).float()
            quantized = quantizer.eval()(z_e)
            beta, gamma = torch.rand(2).tolist()
            found = gmvq_loss(x, VQVAEOutput(x_hat, z_e, quantized), beta=beta, gamma=gamma, lam=lam)
            mu, w = quantizer.codebook.double(), quantizer.weights.double()
            square = (w * (z_e.double()[..., None, :] - mu).square()).sum(-1)  # (B, h, w, K)
            log_q = (-square / 2).log_softmax(-1)
            q = log_q.exp()
            kl = lam * aggregate_kl(log_q, uniform(6)) + (1 - lam) * code_kl(log_q, uniform(6))
            pull = (q * square).sum(-1).sum((1, 2)).mean()  # summed over the positions of an image
            image = (x - x_hat).double().square().sum((1, 2, 3)).mean() + gamma * pull + 4 * beta * kl
            errors.append(found / (image / x[0].numel()) - 1)
    return largest(*errors)


@proof("eq-gv-entropies", kind="random models", tolerance=1e-12)
def code_term_in_entropies() -> float:
    """With a uniform prior: the code term of J_lambda from the two divergences, against log K less the two entropies,
    and against the ELBO's less lambda times the information."""
    errors = []
    for _ in range(MODELS):
        log_q, lam = posteriors(40, 7), 3 * torch.rand(()).item()
        prior, q = uniform(7), log_q.exp()
        term = (1 - lam) * code_kl(log_q, prior) + lam * aggregate_kl(log_q, prior)
        within, across = entropy(q).mean(), entropy(q.mean(0))
        errors.append(term - (math.log(7) - (1 - lam) * within - lam * across))
        errors.append(term - (code_kl(log_q, prior) - lam * mutual_information(log_q)))
    return largest(*errors)


@proof("eq-gv-groups", kind="random models", tolerance=1e-12)
def groups_against_the_batch() -> float:
    """The library's mean divergence of groups, against that of the batch plus the mean divergence of the groups from
    the batch; groups of one and of all positions are the ELBO's and ALBO's terms."""
    errors = []
    for _ in range(MODELS):
        log_q, prior = posteriors(48, 7), torch.randn(7).log_softmax(-1)
        q = log_q.exp()
        for group in (1, 4, 12, 48):
            means = q.reshape(-1, group, 7).mean(1)
            apart = (means * (means / q.mean(0)).log()).sum(-1).mean()
            right = aggregate_kl(log_q, prior) + apart
            errors.append(grouped_kl(log_q, prior, group, by_image=True) - right)
        errors.append(grouped_kl(log_q, prior, 1) - code_kl(log_q, prior))
        errors.append(grouped_kl(log_q, prior, 48) - aggregate_kl(log_q, prior))
    return largest(*errors)


@proof("eq-gv-bits", kind="quadrature", tolerance=1e-3)
def bits_of_a_number() -> float:
    """The mean code length of a Gaussian residual in steps of width w, its probabilities from the error function,
    summed over all steps, against half log2 of 2 pi e times the variance, less log2 w, for residuals whose standard
    deviation is 12 to 40 steps (an error of 0.002 to 0.025)."""
    errors, width = [], 1 / 255
    for steps in (12.0, 25.0, 40.0):
        s = steps * width
        edge = (torch.arange(-2_000, 2_001) + 0.5 + torch.rand(())) * width
        cdf = 0.5 * (1 + torch.erf(edge / (s * math.sqrt(2))))
        p = cdf.diff()
        p = p[p > 1e-300]
        length = -(p * p.log2()).sum()
        errors.append(length - (0.5 * math.log2(2 * math.pi * math.e * s**2) - math.log2(width)))
    return largest(*errors)

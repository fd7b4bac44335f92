"""Proofs of chapter 3: the straight-through gradient, the three terms and their gradients, the bound, the rates."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from proofs import largest, proof
from vqbook.metrics import code_counts, entropy_bits, perplexity
from vqbook.objectives import vqvae_terms
from vqbook.quantizers import VectorQuantizer, kmeans, straight_through
from vqbook.vqvae import VQVAE


def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """The argmin written out: z (N, D), codebook (K, D) -> codes (N,)."""
    return torch.stack([(z_n - codebook).square().sum(-1).argmin() for z_n in z])


@proof("eq-vq-nearest", kind="enumerated", tolerance=1e-12)
def quantiser_takes_the_nearest() -> float:
    """The vector that `VectorQuantizer` returns is as near as the nearest of all codes, for 1,000 vectors, and it is
    the code that it names."""
    quantizer, z_e = VectorQuantizer(20, 8), torch.randn(1_000, 8)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.randn(20, 8))
        out = quantizer(z_e)
        every = torch.stack([(z_e - e).square().sum(-1) for e in quantizer.codebook], -1)  # (N, K)
        least = every.min(-1).values
        named = quantizer.codebook[out.codes]
    return largest((z_e - named).square().sum(-1) - least, out.z_q - named)


@proof("eq-straight-through", kind="random models", tolerance=1e-12)
def straight_through_by_autograd() -> float:
    """The value is z_q, the Jacobian is the identity for z_e and zero for z_q, in the formula and in the library."""
    errors = []
    for _ in range(10):
        z_e, z_q = torch.randn(2, 6)
        for estimator in (lambda a, b: a + (b - a).detach(), straight_through):
            to_z, to_q = torch.autograd.functional.jacobian(estimator, (z_e, z_q))
            errors += [estimator(z_e, z_q) - z_q, to_z - torch.eye(6), to_q]
    return largest(*errors)


@proof("eq-ste-bias", kind="random models", tolerance=0.02)
def straight_through_bias() -> float:
    """What gradient and Hessian leave over shrinks as the square of the step: halving it divides the rest by four, on
    ten random networks (relative error of the four)."""
    errors = []
    for _ in range(10):
        w1, w2 = torch.randn(2, 8, 8) / 3

        def loss(z: Tensor, w1: Tensor = w1, w2: Tensor = w2) -> Tensor:
            return (torch.tanh(z @ w1) @ w2 - 1).square().sum()

        z_e, direction = torch.randn(2, 8)
        gradient, hessian = torch.func.grad(loss), torch.func.hessian(loss)(z_e)
        rest = []
        for length in (2e-3, 1e-3):
            delta = length * direction / direction.norm()
            rest.append((gradient(z_e + delta) - gradient(z_e) - hessian @ delta).norm())
        errors.append(rest[0] / rest[1] / 4 - 1)
    return largest(*errors)


@proof("eq-vq-loss", kind="random models", tolerance=1e-12)
def three_terms() -> float:
    """The library's terms, weighted, have the value of the formula (squares averaged), and its gradients at encoder,
    codebook and decoder, the formula written with detach; ten random models."""
    errors = []
    for _ in range(10):
        model = VQVAE(nn.Conv2d(3, 4, 2, 2), VectorQuantizer(7, 4), nn.ConvTranspose2d(4, 3, 2, 2))
        x, beta = torch.rand(2, 3, 4, 4), torch.rand(())
        terms = vqvae_terms(x, model(x))
        ours = terms["reconstruction"] + terms["codebook"] + beta * terms["commitment"]

        z_e = model.encoder(x).permute(0, 2, 3, 1).flatten(0, 2)
        e_c = model.quantizer.codebook[nearest(z_e, model.quantizer.codebook)]
        seen = z_e + (e_c - z_e).detach()
        x_hat = model.decoder(seen.reshape(2, 2, 2, 4).permute(0, 3, 1, 2))
        written = (x - x_hat).square().mean() + (z_e.detach() - e_c).square().mean()
        written = written + beta * (z_e - e_c.detach()).square().mean()

        errors.append(ours - written)
        both = (torch.autograd.grad(loss, list(model.parameters())) for loss in (ours, written))
        errors += [a - b for a, b in zip(*both, strict=True)]
    return largest(*errors)


def _linear_model() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors (N, D), a codebook (K, D) with one code far from all, their codes, and a decoder's pull g (N, D)."""
    z, codebook = torch.randn(40, 3), torch.randn(6, 3)
    codebook[5] = 100.0
    return z, codebook, nearest(z, codebook), torch.randn(40, 3)


def _latent_loss(z: Tensor, codebook: Tensor, codes: Tensor, g: Tensor, beta: float) -> Tensor:
    """The objective with a decoder whose gradient at each vector is g."""
    e = codebook[codes]
    reconstruction = (g * (z + (e - z).detach())).sum()
    return reconstruction + (z.detach() - e).square().mean() + beta * (z - e.detach()).square().mean()


@proof("eq-vq-gradients", kind="random models", tolerance=1e-12)
def gradients_of_the_three_terms() -> float:
    """Autograd on the objective against every right-hand side, for 20 random batches with an unused code among six."""
    errors = []
    for _ in range(20):
        z, codebook, codes, g = _linear_model()
        z.requires_grad_(), codebook.requires_grad_()
        beta, size = 0.25, z.numel()  # size = N D
        to_z, to_e = torch.autograd.grad(_latent_loss(z, codebook, codes, g, beta), (z, codebook))
        z, codebook = z.detach(), codebook.detach()
        errors.append(to_z - (g + 2 * beta / size * (z - codebook[codes])))
        for k in range(6):
            cell = z[codes == k]
            errors.append(to_e[k] - 2 / size * (codebook[k] - cell).sum(0))
            if len(cell):
                errors.append(to_e[k] - 2 * len(cell) / size * (codebook[k] - cell.mean(0)))
    return largest(*errors)


@proof("eq-vq-kmeans", kind="random models", tolerance=1e-12)
def codebook_term_is_kmeans() -> float:
    """A gradient step by autograd against the convex combination, for 20 random batches and steps; with a step of its
    own for each code, so that each ρ is one, it is an iteration of `kmeans`."""
    errors = []
    for seed in range(20):
        z, _, _, g = _linear_model()
        torch.manual_seed(seed)
        codebook = kmeans(z, 6, iterations=0).centroids.requires_grad_()
        torch.manual_seed(seed)
        lloyd = kmeans(z, 6, iterations=1).centroids
        codes, eta = nearest(z, codebook), 10 * torch.rand(())
        (to_e,) = torch.autograd.grad(_latent_loss(z, codebook, codes, g, 0.25), codebook)
        for k in range(6):
            n_k, e_k = (codes == k).sum(), codebook[k].detach()
            rho, z_bar = 2 * eta * n_k / z.numel(), z[codes == k].mean(0)
            errors.append(e_k - eta * to_e[k] - ((1 - rho) * e_k + rho * z_bar))
            errors.append(e_k - z.numel() / (2 * n_k) * to_e[k] - lloyd[k])
    return largest(*errors)


def _messages(num_codes: int, positions: int) -> tuple[Tensor, Tensor]:
    """All K^M messages of a random Gaussian decoder: log p(x | c) for each, and log p(x) by enumeration."""
    painted, x = torch.randn(num_codes**positions, 5), torch.randn(5)
    log_likelihood = torch.distributions.Normal(painted, 0.6).log_prob(x).sum(-1)
    log_prior = -positions * math.log(num_codes)
    return log_likelihood, (log_likelihood + log_prior).logsumexp(0)


SIZES = [(2, 1), (5, 1), (2, 4), (3, 3), (6, 2)]  # (K, M)


@proof("eq-vq-elbo", kind="enumerated", tolerance=1e-12)
def bound_of_a_certain_posterior() -> float:
    """The bound with both expectations summed over all messages: no more than the evidence, and equal to the last
    line, for every possible choice of the encoder on 25 random decoders."""
    errors = []
    for num_codes, positions in SIZES * 5:
        log_likelihood, log_evidence = _messages(num_codes, positions)
        prior = torch.full_like(log_likelihood, num_codes**-positions)
        for chosen in range(len(log_likelihood)):
            q = torch.zeros_like(log_likelihood)
            q[chosen] = 1.0
            divergence = (torch.special.xlogy(q, q) - q * prior.log()).sum()
            bound = (q * log_likelihood).sum() - divergence
            errors.append((bound - log_evidence).clamp_min(0))
            errors.append(bound - (log_likelihood[chosen] - positions * math.log(num_codes)))
    return largest(*errors)


@proof("eq-vq-sandwich", kind="enumerated", tolerance=1e-12)
def evidence_in_the_sandwich() -> float:
    """The violation of either side, the evidence summed over all messages, for the best message of 500 random decoders;
    the right side is attained when all messages paint alike, the left one when the others cannot have painted x."""
    errors = []
    for num_codes, positions in SIZES * 100:
        log_likelihood, log_evidence = _messages(num_codes, positions)
        price, best = positions * math.log(num_codes), log_likelihood.max()
        errors += [(best - price - log_evidence).clamp_min(0), (log_evidence - best).clamp_min(0)]
        alike = torch.full_like(log_likelihood, -3.0)
        alone = torch.full_like(log_likelihood, -1_000.0)
        alone[0] = -3.0
        errors.append((alike - price).logsumexp(0) - (-3.0))
        errors.append((alone - price).logsumexp(0) - (-3.0 - price))
    return largest(*errors)


@proof("eq-vq-rates", kind="random models", tolerance=1e-10)
def two_rates() -> float:
    """The rate of used codes counted message by message, as the mean of -log2 of the frequencies, against entropy and
    perplexity, and never above that of the names; 50 random usages."""
    errors = []
    for num_codes, positions in itertools.product(range(2, 12), (1, 4, 16, 30, 64)):
        usage = torch.distributions.Dirichlet(torch.full((num_codes,), 0.5)).sample()
        codes = torch.multinomial(usage, 20 * positions, replacement=True).reshape(20, positions)
        counts = code_counts(codes, num_codes)
        p_hat = counts / counts.sum()
        counted = -p_hat[codes].log2().sum(-1).mean()  # bits of a message, averaged over messages
        errors += [
            counted - positions * entropy_bits(counts),
            counted - positions * perplexity(counts).log2(),
        ]
        errors.append((counted - positions * math.log2(num_codes)).clamp_min(0))
    return largest(*errors)


@proof("eq-vq-leash", kind="random models", tolerance=1e-12)
def leash() -> float:
    """The distance at which autograd finds no force on a vector under a constant pull and the commitment, both summed,
    for 100 random pulls; and the distance where descent comes to rest."""
    errors = []
    for _ in range(100):
        e, g, beta = torch.randn(4), torch.randn(4), 0.2 + 2 * float(torch.rand(()))

        def loss(z: Tensor, e: Tensor = e, g: Tensor = g, beta: float = beta) -> Tensor:
            return (g * (z + (e - z).detach())).sum() + beta * (z - e.detach()).square().sum()

        z = torch.randn(4)
        for _ in range(60):  # each step removes half of what is left
            z = z - torch.func.grad(loss)(z) / (4 * beta)
        errors += [torch.func.grad(loss)(z), (z - e).norm() - g.norm() / (2 * beta)]
    return largest(*errors)

"""Plausible wrong answers to the exercises of chapter 8."""

from __future__ import annotations

import copy
import math

import torch
from wrong import Wrong

from vqbook.nets import Decoder, Encoder
from vqbook.vqvae import VQVAE

LOG2 = math.log(2)


def _objective(
    *, error="mean", factor=lambda N, M: N / M, code="aggregate", pull="expected", sign=1.0, top=True
):
    """The loss with a part replaced."""

    def objective(x, x_hat, log_q, sq_dist, beta, gamma):
        K, q = log_q.shape[-1], log_q.exp()
        N, M = log_q.shape[1] * log_q.shape[2], x[0].numel()
        sq_error = (x - x_hat).square()
        first = {"mean": sq_error.mean(), "image": sq_error.sum((1, 2, 3)).mean(), "sum": sq_error.sum()}[
            error
        ]
        mean = {
            "aggregate": q.reshape(-1, K).mean(0),
            "each": q,
            "image": q.reshape(len(q), -1, K).mean(1),
        }[code]
        kl = (mean * mean.log()).sum(-1).mean() + (math.log(K) if top else 0)
        distance = {
            "expected": (q * sq_dist).sum(-1).mean(),
            "likeliest": sq_dist.gather(-1, log_q.argmax(-1, keepdim=True)).mean(),
            "plain": sq_dist.mean(),
        }[pull]
        return first + factor(N, M) * (gamma * distance + sign * beta * kl)

    return objective


def no_gradient(x, x_hat, log_q, sq_dist, beta, gamma):
    return _objective()(x, x_hat, log_q, sq_dist, beta, gamma).item()


def _entropy(p):
    return torch.special.entr(p).sum(-1)


def _rows(batches):
    return torch.cat([b.reshape(-1, b.shape[-1]) for b in batches]).exp()


def _perplexity(q):
    share = torch.bincount(q.argmax(-1), minlength=q.shape[-1]).double() / len(q)
    return _entropy(share).exp()


def _three(rows):
    return _entropy(rows).mean(), _entropy(rows.mean(0)), _perplexity(rows)


def _of_batches(which):
    """One of the three numbers is taken batch by batch and then averaged."""

    def usage_numbers(batches):
        right = list(_three(_rows(batches)))
        right[which] = sum(_three(_rows([b]))[which] for b in batches) / len(batches)
        return tuple(right)

    return usage_numbers


def swapped(batches):
    conditional, marginal, used = _three(_rows(batches))
    return marginal, conditional, used


def in_bits(batches):
    conditional, marginal, used = _three(_rows(batches))
    return conditional / math.log(2), marginal / math.log(2), used


def soft_perplexity(batches):
    conditional, marginal, _ = _three(_rows(batches))
    return conditional, marginal, marginal.exp()


def active(batches):
    rows = _rows(batches)
    return *_three(rows)[:2], rows.argmax(-1).unique().numel()


def hard_marginal(batches):
    conditional, _, used = _three(_rows(batches))
    return conditional, used.log(), used


def _bits(
    *,
    codes=lambda nats, n, d: n * nats / d,
    inner=2 * math.pi * math.e,
    half=0.5,
    width=-1.0,
    unit=LOG2,
):
    """The bits with a part replaced."""

    def bits_per_dim(mse, code_nats, positions, numbers, step):
        rest = 0.5 * math.log(inner) + half * math.log(mse) + width * math.log(step)
        return (codes(code_nats, positions, numbers) + rest) / unit

    return bits_per_dim


def mixed_units(mse, code_nats, positions, numbers, width):
    return positions * code_nats / numbers + _bits(codes=lambda *_: 0)(mse, 0, 0, 0, width)


def fixed_256(mse, code_nats, positions, numbers, width):
    return _bits()(mse, code_nats, positions, numbers, 1 / 256)


def fixed_255(mse, code_nats, positions, numbers, width):
    return _bits()(mse, code_nats, positions, numbers, 1 / 255)


def _kl(p, log_prior):
    return (p * (p.log() - log_prior)).sum(-1)


def _sizes(parts):
    return torch.tensor([float(len(p)) for p in parts])


def accumulated_report(parts, log_prior):
    return sum(_kl(p.exp().mean(0), log_prior) for p in parts) / len(parts)


def by_size(parts, log_prior):
    each = torch.stack([_kl(p.exp().mean(0), log_prior) for p in parts])
    return (_sizes(parts) * each).sum() / _sizes(parts).sum()


def sizes_forgotten(parts, log_prior):
    return _kl(torch.stack([p.exp().mean(0) for p in parts]).mean(0), log_prior)


def each_position(parts, log_prior):
    return _kl(torch.cat(parts).exp(), log_prior).mean()


def no_prior(parts, log_prior):
    return -_entropy(torch.cat(parts).exp().mean(0))


def entropy_alone(parts, log_prior):
    return _entropy(torch.cat(parts).exp().mean(0))


def geometric(parts, log_prior):
    return _kl(torch.cat(parts).mean(0).softmax(-1), log_prior)


def not_divided(parts, log_prior):
    return _kl(torch.cat(parts).exp().sum(0), log_prior)


def last_alone(parts, log_prior):
    held = [*(p.detach() for p in parts[:-1]), parts[-1]]
    return _kl(torch.cat(held).exp().mean(0), log_prior)


def accumulated_number(parts, log_prior):
    return _kl(torch.cat(parts).exp().mean(0), log_prior).item()


def _pair():
    return Encoder(3, hidden=8, dim=4), Decoder(3, hidden=8, dim=4)


def seeded_once(makers, seed):
    torch.manual_seed(seed)
    return {name: VQVAE(*_insert(_pair(), make(4))) for name, make in makers.items()}


def _insert(pair, quantizer):
    return pair[0], quantizer, pair[1]


def quantizer_first(makers, seed):
    models = {}
    for name, make in makers.items():
        torch.manual_seed(seed)
        quantizer = make(4)
        models[name] = VQVAE(*_insert(_pair(), quantizer))
    return models


def between(makers, seed):
    models = {}
    for name, make in makers.items():
        torch.manual_seed(seed)
        models[name] = VQVAE(Encoder(3, hidden=8, dim=4), make(4), Decoder(3, hidden=8, dim=4))
    return models


def shared(makers, seed):
    torch.manual_seed(seed)
    pair = _pair()
    return {name: VQVAE(*_insert(pair, make(4))) for name, make in makers.items()}


def copied_quantizers_in_a_row(makers, seed):
    torch.manual_seed(seed)
    pair = _pair()
    return {name: VQVAE(*_insert(copy.deepcopy(pair), make(4))) for name, make in makers.items()}


def seed_forgotten(makers, seed):
    return quantizer_last(makers, 0)


def quantizer_last(makers, seed):
    models = {}
    for name, make in makers.items():
        torch.manual_seed(seed)
        models[name] = VQVAE(*_insert(_pair(), make(4)))
    return models


def larger_decoder(makers, seed):
    models = quantizer_last(makers, seed)
    models["GM-VQ"].decoder = Decoder(3, hidden=8, dim=4, res_blocks=3)
    return models


BANK = {
    "ex-gv-objective": [
        Wrong("terms not scaled", _objective(factor=lambda N, M: 1), says="factor N / P"),
        Wrong("divided by P alone", _objective(factor=lambda N, M: 1 / M), says="has N positions"),
        Wrong("objective of an image", _objective(error="image", factor=lambda N, M: N), says="divides all of it"),
        Wrong("sum and mean", _objective(error="image", factor=lambda N, M: 1), says="reductions are mixed"),
        Wrong("sum over the batch", _objective(error="sum", factor=lambda N, M: N), says="over the batch"),
        Wrong("mean and sum", _objective(factor=lambda N, M: N), says="summed over positions"),
        Wrong("entropies swapped", _objective(code="each"), says="entropy of the mean belongs"),
        Wrong("an aggregate for each image", _objective(code="image"), says="own aggregate"),
        Wrong("entropy for divergence", _objective(top=False), says="log K is missing"),
        Wrong("sign", _objective(sign=-1.0), says="wrong sign"),
        Wrong("likeliest code's distance", _objective(pull="likeliest"), says="expectation over q"),
        Wrong("plain mean of distances", _objective(pull="plain"), says="weight them with q"),
        Wrong("a plain number", no_gradient, says="no gradient"),
    ],
    "ex-gv-numbers": [
        Wrong("entropies swapped", swapped, says="swapped"),
        Wrong("perplexity by batch", _of_batches(2), says="small window"),
        Wrong("entropy of the mean by batch", _of_batches(1), says="window is all positions"),
        Wrong("batches count alike", _of_batches(0), says="different size"),
        Wrong("bits", in_bits, says="nats"),
        Wrong("soft perplexity", soft_perplexity, says="used at test time"),
        Wrong("active codes", active, says="how often"),
        Wrong("entropy of hard codes", hard_marginal, says="posteriors themselves"),
    ],
    "ex-gv-bits": [
        Wrong("density for probability", _bits(width=0.0), says="density is not a probability"),
        Wrong("width upside down", _bits(width=1.0), says="finer steps cost more"),
        Wrong("nats", _bits(unit=1.0), says="in nats"),
        Wrong("mixed units", mixed_units, says="divide both by log 2"),
        Wrong("codes of the image", _bits(codes=lambda nats, n, d: n * nats), says="divide by `numbers`"),
        Wrong("one code", _bits(codes=lambda nats, n, d: nats / d), says="not one"),
        Wrong("no e", _bits(inner=2 * math.pi), says="half a nat"),
        Wrong("variance twice", _bits(half=1.0), says="variance already"),
        Wrong("256 steps", fixed_256, says="1 / 256"),
        Wrong("width not used", fixed_255, says="[-1, 1]"),
        Wrong("codes alone", lambda mse, nats, n, d, w: n * nats / d / math.log(2), says="residual is missing"),
        Wrong("residual alone", _bits(codes=lambda *_: 0), says="codes are missing"),
    ],
    "ex-gv-accumulate": [
        Wrong("as in the report", accumulated_report, says="aggregate of its own"),
        Wrong("weighted by size", by_size, says="still one aggregate"),
        Wrong("sizes forgotten", sizes_forgotten, says="mean over positions"),
        Wrong("each position", each_position, says="ELBO's term"),
        Wrong("no prior", no_prior, says="prior is missing"),
        Wrong("entropy alone", entropy_alone, says="sign is turned"),
        Wrong("logarithms averaged", geometric, says="geometric mean"),
        Wrong("not divided", not_divided, says="not divided"),
        Wrong("gradient of the last part", last_alone, says="every micro-batch"),
        Wrong("a plain number", accumulated_number, says="no gradient"),
    ],
    "ex-gv-decoders": [
        Wrong("seeded once", seeded_once, says="different weights"),
        Wrong("quantizer draws first", quantizer_first, says="let the quantizer draw last"),
        Wrong("quantizer in between", between, says="decoders start with different weights"),
        Wrong("one decoder for all", shared, says="one and the same module"),
        Wrong("codes in a row", copied_quantizers_in_a_row, says="another order"),
        Wrong("seed forgotten", seed_forgotten, says="seed is not used"),
        Wrong("a larger decoder for ours", larger_decoder, says="one size"),
    ],
}  # fmt: skip

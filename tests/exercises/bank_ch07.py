"""Plausible wrong answers to the exercises of chapter 7."""

from __future__ import annotations

import math

import torch
from wrong import Wrong


def _kl(log_a, log_b):
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def _mean_of_all(log_q):
    return log_q.flatten(0, 1).logsumexp(0) - math.log(log_q[..., 0].numel())


def _albo(
    *,
    code=lambda log_q, logits, log_prior: log_q.shape[1] * _kl(_mean_of_all(log_q), log_prior),
    latent_of=lambda latent: latent.sum(1).mean(),
    scale=lambda sigma: sigma**2,
    square=lambda error, pixels: error.mean(),
    normaliser=lambda pixels, var: pixels / 2 * math.log(2 * math.pi * var),
    total=lambda value, error: value,
):
    """The objective with one part replaced."""

    def albo_from_logits(error, latent, logits, log_prior, sigma_x, pixels):
        var = scale(sigma_x)
        fit = -square(error, pixels) / (2 * var) - normaliser(pixels, var)
        price = code(logits.log_softmax(-1), logits, log_prior)
        return total(fit - latent_of(latent) - price, error)

    return albo_from_logits


def _from_probabilities(log_q, logits, log_prior):
    mean = logits.softmax(-1).mean((0, 1))
    return logits.shape[1] * (mean * (mean.log() - log_prior)).sum()


def _clamped(log_q, logits, log_prior):
    mean = logits.softmax(-1).mean((0, 1))
    return logits.shape[1] * (mean * ((mean + 0.01).log() - log_prior)).sum()


def _entropy(mean):
    return torch.special.entr(mean).sum(-1)


def _bias(
    *,
    images_of=lambda q, b: (q.mean(1).var(0, correction=0), b),
    positions_of=lambda q, b: (q.flatten(0, 1).var(0, correction=0), b * q.shape[1]),
    share=lambda mean: mean.clamp_min(1e-30),
    factor=0.5,
    order=lambda a, b: (a, b),
):
    """Both biases with one part replaced."""

    def batch_bias(q, images):
        mean = share(q.mean((0, 1)))
        both = [
            factor * (v / mean).sum() / size for v, size in (images_of(q, images), positions_of(q, images))
        ]
        return order(*both)

    return batch_bias


def _madow(q, images):
    K, N = q.shape[-1], q.shape[1]
    return torch.tensor((K - 1) / (2 * images)), torch.tensor((K - 1) / (2 * images * N))


def _usage(penalty=None, perplexity=None):
    """The report with one of its numbers replaced."""

    def usage(batches):
        q = torch.cat(batches).exp()
        of_mean, mean_of = _entropy(q.mean(0)), _entropy(q).mean()
        first = mean_of - of_mean if penalty is None else penalty(batches, of_mean, mean_of)
        second = of_mean.exp() if perplexity is None else perplexity(batches, of_mean, mean_of)
        return first, second

    return usage


def _over_batches(batches, of):
    return torch.stack([of(log_q.exp()) for log_q in batches]).mean()


def _penalty_by_batch(batches, *_):
    return _over_batches(batches, lambda q: _entropy(q).mean() - _entropy(q.mean(0)))


def _batches_count(batches):
    mean = torch.stack([log_q.exp().mean(0) for log_q in batches]).mean(0)
    return _over_batches(batches, lambda q: _entropy(q).mean()) - _entropy(mean), _entropy(mean).exp()


def _given(batches):
    penalty, perplexity = 0.0, 0.0
    for log_q in batches:
        q = log_q.exp()
        entropy_of_mean = _entropy(q).mean()
        mean_entropy = _entropy(q.mean(0))
        penalty += (mean_entropy - entropy_of_mean) / len(batches)
        perplexity += entropy_of_mean.exp() / len(batches)
    return penalty, perplexity


BANK = {
    "ex-albo-logits": [
        Wrong(
            "the ELBO",
            _albo(code=lambda log_q, logits, p: log_q.shape[1] * _kl(log_q, p).mean()),
            says="mean of the divergences",
        ),
        Wrong(
            "mean of the logits",
            _albo(code=lambda log_q, logits, p: logits.shape[1] * _kl(logits.mean((0, 1)).log_softmax(0), p)),
            says="averaged before the softmax",
        ),
        Wrong(
            "one aggregate for each picture",
            _albo(
                code=lambda log_q, logits, p: (
                    log_q.shape[1] * _kl(log_q.logsumexp(1) - math.log(log_q.shape[1]), p).mean()
                )
            ),
            says="its own aggregate",
        ),
        Wrong(
            "code term once a picture",
            _albo(code=lambda log_q, logits, p: _kl(_mean_of_all(log_q), p)),
            says="Reductions are mixed",
        ),
        Wrong(
            "latent KL averaged", _albo(latent_of=lambda latent: latent.mean()), says="Reductions are mixed"
        ),
        Wrong("no normaliser", _albo(normaliser=lambda pixels, var: 0.0), says="normaliser is forgotten"),
        Wrong(
            "normaliser of one pixel",
            _albo(normaliser=lambda pixels, var: 0.5 * math.log(2 * math.pi * var)),
            says="counts one pixel",
        ),
        Wrong(
            "mean squared error",
            _albo(square=lambda error, pixels: error.mean() / pixels),
            says="divided by the number of pixels",
        ),
        Wrong("sigma for its square", _albo(scale=lambda sigma: sigma), says="the variance, belongs"),
        Wrong(
            "sign of the code term",
            _albo(code=lambda log_q, logits, p: -log_q.shape[1] * _kl(_mean_of_all(log_q), p)),
            says="wrong sign",
        ),
        Wrong(
            "prior forgotten",
            _albo(
                code=lambda log_q, logits, p: log_q.shape[1] * _kl(_mean_of_all(log_q), torch.zeros_like(p))
            ),
            says="prior is forgotten",
        ),
        Wrong(
            "prior taken to be uniform",
            _albo(
                code=lambda log_q, logits, p: (
                    log_q.shape[1] * (math.log(len(p)) + _kl(_mean_of_all(log_q), torch.zeros_like(p)))
                )
            ),
            says="uniform",
        ),
        Wrong("logarithm of a mean of probabilities", _albo(code=_from_probabilities), says="not finite"),
        Wrong("a constant inside the logarithm", _albo(code=_clamped), says="expected"),
        Wrong("the loss", _albo(total=lambda value, error: -value), says="return the objective"),
        Wrong("summed over the batch", _albo(total=lambda value, error: len(error) * value), says="sum over"),
        Wrong(
            "one for each picture",
            _albo(square=lambda error, pixels: error),
            says="has shape",
        ),
    ],
    "ex-batch-bias": [
        Wrong("other order", _bias(order=lambda a, b: (b, a)), says="whole images first"),
        Wrong(
            "images counted as positions",
            _bias(images_of=lambda q, b: (q.mean(1).var(0, correction=0), b * q.shape[1])),
            says="window is wrong for whole images",
        ),
        Wrong("as if independent", _bias(order=lambda a, b: (b, b)), says="treated as independent"),
        Wrong(
            "positions counted as images",
            _bias(positions_of=lambda q, b: (q.flatten(0, 1).var(0, correction=0), b)),
            says="window is wrong for positions",
        ),
        Wrong("Miller and Madow", _madow, says="certain rows"),
        Wrong("no half", _bias(factor=1.0), says="half"),
        Wrong("not over the aggregate", _bias(share=torch.ones_like), says="not divided by the aggregate"),
        Wrong(
            "over the prior",
            _bias(share=lambda mean: torch.full_like(mean, 1 / len(mean))),
            says="uniform prior",
        ),
        Wrong(
            "standard deviations",
            _bias(
                images_of=lambda q, b: (q.mean(1).std(0, correction=0), b),
                positions_of=lambda q, b: (q.flatten(0, 1).std(0, correction=0), b * q.shape[1]),
            ),
            says="Standard deviations",
        ),
        Wrong(
            "sample variance",
            _bias(
                images_of=lambda q, b: (q.mean(1).var(0), b),
                positions_of=lambda q, b: (q.flatten(0, 1).var(0), b * q.shape[1]),
            ),
            says="sample variance",
        ),
        Wrong(
            "variance inside an image",
            _bias(images_of=lambda q, b: (q.var(1, correction=0).mean(0), b)),
            says="inside an image",
        ),
        Wrong("dead code", _bias(share=lambda mean: mean), says="dead code"),
        Wrong("one number", lambda q, images: _bias()(q, images)[0], says="two numbers"),
    ],
    "ex-entropy-swap": [
        Wrong("the given code", _given, says="given code"),
        Wrong(
            "penalty swapped", _usage(penalty=lambda b, of_mean, mean_of: of_mean - mean_of), says="swapped"
        ),
        Wrong(
            "both swapped",
            _usage(lambda b, of_mean, mean_of: of_mean - mean_of, lambda b, of_mean, mean_of: mean_of.exp()),
            says="Both are still swapped",
        ),
        Wrong(
            "perplexity of one position",
            _usage(perplexity=lambda b, of_mean, mean_of: mean_of.exp()),
            says="one position",
        ),
        Wrong(
            "perplexity window",
            _usage(perplexity=lambda b, *_: _over_batches(b, lambda q: _entropy(q.mean(0)).exp())),
            says="window is a batch",
        ),
        Wrong(
            "entropy window",
            _usage(perplexity=lambda b, *_: _over_batches(b, lambda q: _entropy(q.mean(0))).exp()),
            says="entropies of batches",
        ),
        Wrong(
            "window for both",
            _usage(
                _penalty_by_batch,
                lambda b, *_: _over_batches(b, lambda q: _entropy(q.mean(0)).exp()),
            ),
            says="both numbers",
        ),
        Wrong("window of the penalty", _usage(penalty=_penalty_by_batch), says="penalty's window"),
        Wrong("batches count, not rows", _batches_count, says="rows that count"),
        Wrong("power of two", _usage(perplexity=lambda b, of_mean, _: 2**of_mean), says="nats want exp"),
        Wrong("entropy for perplexity", _usage(perplexity=lambda b, of_mean, _: of_mean), says="exponential"),
    ],
}

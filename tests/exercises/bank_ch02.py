"""Plausible wrong answers to the exercises of chapter 2."""

from __future__ import annotations

import math

from torch.nn import functional as F
from wrong import Wrong

from vqbook.vae import gaussian_log_density


def _exact(m, lv, pm, plv):
    return 0.5 * ((lv - plv).exp() - 1 - lv + plv + (m - pm) ** 2 / plv.exp()).sum(-1)


def _sampled(m, lv, pm, plv, noise, sd=None):
    z = m + ((0.5 * lv).exp() if sd is None else sd) * noise
    return (gaussian_log_density(z, m, lv) - gaussian_log_density(z, pm, plv)).mean(0)


def _kl(exact=_exact, sampled=_sampled):
    """An answer to ex-gaussian-kl with one of its halves replaced."""
    return lambda m, lv, pm, plv, noise: (exact(m, lv, pm, plv), sampled(m, lv, pm, plv, noise))


def _terms(ratio=1.0, one=1.0, log=1.0, moved=1.0):
    """The closed form with other weights on its terms."""

    def exact(m, lv, pm, plv):
        terms = ratio * (lv - plv).exp() - one - log * (lv - plv) + moved * (m - pm) ** 2 / plv.exp()
        return 0.5 * terms.sum(-1)

    return exact


def no_prior(m, lv, pm, plv):
    return 0.5 * (m**2 + lv.exp() - 1 - lv).sum(-1)


def variance_as_sd(m, lv, pm, plv):
    return 0.5 * ((lv - plv).exp() ** 2 - 1 - lv + plv + (m - pm) ** 2 / plv.exp()).sum(-1)


def log_var_as_variance(m, lv, pm, plv):
    return 0.5 * (lv / plv - 1 - lv + plv + (m - pm) ** 2 / plv).sum(-1)


def spring_of_q(m, lv, pm, plv):
    return 0.5 * ((lv - plv).exp() - 1 - lv + plv + (m - pm) ** 2 / lv.exp()).sum(-1)


def by_mean_over_dimensions(m, lv, pm, plv):
    return _exact(m, lv, pm, plv) / m.shape[-1]


def over_batch(m, lv, pm, plv):
    return 0.5 * ((lv - plv).exp() - 1 - lv + plv + (m - pm) ** 2 / plv.exp()).sum(0)


def _weights(lik, prior, q):
    return lik + prior - q


def _log_mean(log_w, axis=0):
    return log_w.logsumexp(axis) - math.log(log_w.shape[axis])


def underflows(log_w):
    return log_w.exp().mean(0).log()


def sum_without_max(log_w):
    return (log_w.float().exp().sum(0).log() - math.log(len(log_w))).double()


def _share(log_w):
    return log_w.softmax(0).max(0).values


def _iw(bound=_log_mean, share=_share, weights=_weights):
    """An answer to ex-iw with one of its halves, or the weights of both, replaced."""
    return lambda *a: (bound(weights(*a)), share(weights(*a)))


def given(x, x_hat, mean, log_var, sigma=1.0):
    return F.mse_loss(x_hat, x) - 0.5 * (1 + log_var - mean**2 - log_var.exp()).mean()


def _loss(
    error=lambda square, sigma: square.sum((1, 2, 3)) / (2 * sigma**2),
    normaliser=lambda pixels, sigma: pixels / 2 * math.log(2 * math.pi * sigma**2),
    price=lambda each: each.sum(-1),
    total=lambda error, normaliser, price: (error + normaliser + price).mean(),
):
    """An answer to ex-sum-mean with one part replaced."""

    def negative_elbo(x, x_hat, mean, log_var, sigma=1.0):
        each = 0.5 * (mean**2 + log_var.exp() - 1 - log_var)
        return total(error((x - x_hat) ** 2, sigma), normaliser(x[0].numel(), sigma), price(each))

    return negative_elbo


BANK = {
    "ex-gaussian-kl": [
        Wrong("half forgotten", _kl(lambda *a: 2 * _exact(*a)), says="factor 1/2"),
        Wrong("swapped", _kl(lambda m, lv, pm, plv: _exact(pm, plv, m, lv)), says="changed places"),
        Wrong("standard prior", _kl(no_prior), says="standard Gaussian"),
        Wrong("variance as standard deviation", _kl(variance_as_sd), says="squared already"),
        Wrong("log variance as variance", _kl(log_var_as_variance), says="take its exponential"),
        Wrong(
            "log variance as log sd", _kl(lambda m, a, p, b: _exact(m, 2 * a, p, 2 * b)), says="standard deviation"
        ),
        Wrong(
            "sd for variance", _kl(lambda m, a, p, b: _exact(m, a / 2, p, b / 2)), says="wants the variance"
        ),
        Wrong("spring of q", _kl(spring_of_q), says="holds the spring"),
        Wrong("no spring", _kl(_terms(moved=0.0)), says="means do not enter"),
        Wrong("no minus one", _kl(_terms(one=0.0)), says="has to be zero"),
        Wrong("sign of the logarithm", _kl(_terms(log=-1.0)), says="wrong sign"),
        Wrong("no logarithm", _kl(_terms(log=0.0)), says="ratio of variances is missing"),
        Wrong("negative", _kl(lambda *a: -_exact(*a)), says="wrong sign"),
        Wrong("mean over dimensions", _kl(by_mean_over_dimensions), says="add up"),
        Wrong("sum over batch", _kl(over_batch), says="over the batch"),
        Wrong("one number", _kl(lambda *a: _exact(*a).mean()), says="keep the images apart"),
        Wrong("noise times variance", _kl(sampled=lambda m, a, p, b, e: _sampled(m, a, p, b, e, a.exp())),
              says="scaled by the standard deviation"),
        Wrong("noise times log variance", _kl(sampled=lambda m, a, p, b, e: _sampled(m, a, p, b, e, a)),
              says="exp(log_var / 2)"),
        Wrong("noise unused", _kl(sampled=lambda m, a, p, b, e: _exact(m, a, p, b)), says="noise has to enter"),
        Wrong("sum over draws", _kl(sampled=lambda *a: len(a[-1]) * _sampled(*a)), says="take their average"),
        Wrong("estimate turned round", _kl(sampled=lambda *a: -_sampled(*a)), says="log p - log q"),
        Wrong("results swapped", lambda *a: (_sampled(*a), _exact(*a[:-1])), says="exact divergence comes first"),
        Wrong("only one result", lambda *a: _exact(*a[:-1]), says="return two things"),
    ],
    "ex-iw": [
        Wrong("average of logarithms", _iw(lambda w: w.mean(0)), says="the ELBO"),
        Wrong("exp underflows", _iw(underflows), says="torch.logsumexp"),
        Wrong("sum of exp underflows", _iw(sum_without_max), says="torch.logsumexp"),
        Wrong("no log k", _iw(lambda w: w.logsumexp(0)), says="log k is missing"),
        Wrong("plus log k", _iw(lambda w: w.logsumexp(0) + math.log(len(w))), says="subtracts it"),
        Wrong("divided by k", _iw(lambda w: w.logsumexp(0) / len(w)), says="inside the logarithm"),
        Wrong("over the images", _iw(lambda w: _log_mean(w, 1)), says="axis 0"),
        Wrong("all together", _iw(lambda w: _log_mean(w.flatten())), says="different images"),
        Wrong("mean over images", _iw(lambda w: _log_mean(w).mean()), says="one number for each"),
        Wrong("q added", _iw(weights=lambda lik, p, q: lik + p + q), says="divided by q"),
        Wrong("q forgotten", _iw(weights=lambda lik, p, q: lik + p), says="log_q is left out"),
        Wrong("prior forgotten", _iw(weights=lambda lik, p, q: lik - q), says="prior is left out"),
        Wrong("largest weight", _iw(lambda w: w.max(0).values), says="largest weight"),
        Wrong("negative", _iw(lambda w: -_log_mean(w)), says="wrong sign"),
        Wrong("no logarithm", _iw(lambda w: w.exp().mean(0)), says="without its logarithm"),
        Wrong("bound alone", lambda *a: _log_mean(_weights(*a)), says="return two things"),
        Wrong("all shares", _iw(share=lambda w: w.softmax(0)), says="largest of the k"),
        Wrong("share of the images", _iw(share=lambda w: w.softmax(1).max(0).values), says="over the images"),
        Wrong("smallest share", _iw(share=lambda w: w.softmax(0).min(0).values), says="smallest"),
        Wrong("average share", _iw(share=lambda w: w.softmax(0).mean(0)), says="1/k whatever"),
        Wrong("weight, no share", _iw(share=lambda w: w.exp().max(0).values), says="divide it by the sum"),
        Wrong("over the average", _iw(share=lambda w: len(w) * _share(w)), says="divide by the sum"),
        Wrong("share of logarithms", _iw(share=lambda w: w.max(0).values / w.sum(0)), says="shares of weights"),
        Wrong("share overflows", _iw(share=lambda w: (w.exp() / w.exp().sum(0)).max(0).values),
              says="the share is nan"),
        Wrong("effective draws", _iw(share=lambda w: 1 / w.softmax(0).square().sum(0)), says="draws that count"),
    ],
    "ex-sum-mean": [
        Wrong("left as it was", given, says="both terms are still means"),
        Wrong("error still a mean", _loss(error=lambda s, sigma: s.mean() / (2 * sigma**2)), says="P times too heavy"),
        Wrong(
            "likelihood a mean",
            _loss(lambda s, sigma: s.mean() / (2 * sigma**2), lambda p, sigma: math.log(2 * math.pi * sigma**2) / 2),
            says="their ratio is the model",
        ),
        Wrong("price a mean", _loss(price=lambda each: each.mean()), says="latent dimensions"),
        Wrong("sum over the batch", _loss(total=lambda e, n, p: (e + n + p).sum()), says="average over the images"),
        Wrong("price summed over the batch", _loss(price=lambda each: each.sum()), says="batch size"),
        Wrong("error summed over the batch", _loss(error=lambda s, sigma: s.sum() / (2 * sigma**2)),
              says="summed over the batch"),
        Wrong("sigma not squared", _loss(error=lambda s, sigma: s.sum((1, 2, 3)) / (2 * sigma)), says="not squared"),
        Wrong("no half", _loss(error=lambda s, sigma: s.sum((1, 2, 3)) / sigma**2), says="not halved"),
        Wrong("no sigma", _loss(error=lambda s, sigma: s.sum((1, 2, 3))), says="2 sigma^2"),
        Wrong("no normaliser", _loss(normaliser=lambda p, sigma: 0.0), says="larger sigma"),
        Wrong("one normaliser", _loss(normaliser=lambda p, sigma: math.log(2 * math.pi * sigma**2) / 2),
              says="counted once"),
        Wrong("price subtracted", _loss(total=lambda e, n, p: (e + n - p).mean()), says="a loss pays it"),
        Wrong("the ELBO itself", _loss(total=lambda e, n, p: -(e + n + p).mean()), says="its negative"),
        Wrong("one number for each image", _loss(total=lambda e, n, p: e + n + p), says="average over the batch"),
        Wrong("a Python number", lambda *a, **k: _loss()(*a, **k).item(), says="no gradient"),
        Wrong("sigma ignored", lambda *a, sigma: _loss()(*a), says="sigma changes nothing"),
    ],
}  # fmt: skip

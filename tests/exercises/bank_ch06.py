"""Plausible wrong answers to the exercises of chapter 6."""

from __future__ import annotations

import math

from wrong import Wrong


def _stable(
    *,
    exponent=lambda d2, s, log_pi: log_pi - d2 / (2 * s**2),
    shift=lambda a: a.max(-1, keepdim=True).values,
    total=lambda t: t.sum(-1, keepdim=True),
    back=lambda m: m,
    constant=lambda dim, s: -0.5 * dim * math.log(2 * math.pi * s**2),
    finish=lambda r, log_p: (r, log_p),
):
    """The reference with a part replaced."""

    def responsibilities_stable(z, mu, sigma, log_pi):
        a = exponent((z.unsqueeze(-2) - mu).square().sum(-1), sigma, log_pi)
        m = shift(a)
        terms = (a - m).exp()
        s = total(terms)
        log_p = (back(m) + s.log()).squeeze(-1) + constant(mu.shape[1], sigma)
        return finish(terms / s, log_p)

    return responsibilities_stable


def over_the_batch(z, mu, sigma, log_pi):
    a = log_pi - (z.unsqueeze(-2) - mu).square().sum(-1) / (2 * sigma**2)
    constant = -0.5 * mu.shape[1] * math.log(2 * math.pi * sigma**2)
    return a.softmax(0), a.logsumexp(-1) + constant


def _story(
    *,
    score=lambda log_pi, g: log_pi + g,
    mean=lambda mu, c, log_pi, g: mu[c],
    spread=lambda log_var, c: (0.5 * log_var[c]).exp().unsqueeze(-1),
):
    def tell_story(log_pi, mu, log_var, gumbel, noise):
        codes = score(log_pi, gumbel).argmax(-1)
        return codes, mean(mu, codes, log_pi, gumbel) + spread(log_var, codes) * noise

    return tell_story


def likeliest(log_pi, mu, log_var, gumbel, noise):
    codes = log_pi.argmax(-1).expand(len(noise))
    return codes, mu[codes] + (0.5 * log_var[codes]).exp().unsqueeze(-1) * noise


def float_codes(log_pi, mu, log_var, gumbel, noise):
    codes, z = _story()(log_pi, mu, log_var, gumbel, noise)
    return codes.float(), z


def _widths(normaliser, finish=lambda base, half: (base - half).softmax(-1), var=lambda v: v.exp()):
    def with_widths(z, mu, log_var, log_pi):
        sq_dist = (z.unsqueeze(-2) - mu).square().sum(-1)
        base = log_pi - 0.5 * sq_dist / var(log_var)
        return finish(base, normaliser(mu.shape[1], log_var))

    return with_widths


def no_prior(z, mu, log_var, log_pi):
    sq_dist = (z.unsqueeze(-2) - mu).square().sum(-1)
    return (-0.5 * (sq_dist / log_var.exp() + mu.shape[1] * log_var)).softmax(-1)


def _blend(size, mean=lambda y, mu: y @ mu):
    """`size(y, var, rule)` -> s with a last axis of one."""

    def blended_sample(y, mu, var, noise, rule):
        return mean(y, mu) + size(y, var, rule) * noise

    return blended_sample


def _right(y, var, rule):
    if rule == "variance":
        return (y * var).sum(-1, keepdim=True).sqrt()
    return (y * var.sqrt()).sum(-1, keepdim=True)


BANK = {
    "ex-responsibilities": [
        Wrong("no shift", _stable(shift=lambda a: 0 * a[..., :1]), says="not finite"),
        Wrong(
            "one maximum for the batch", _stable(shift=lambda a: a.max() + 0 * a[..., :1]), says="far vector"
        ),
        Wrong(
            "a constant under the line",
            _stable(shift=lambda a: 0 * a[..., :1], total=lambda t: t.sum(-1, keepdim=True) + 1e-12),
            says="add nothing to the sum",
        ),
        Wrong("logarithms", _stable(finish=lambda r, p: (r.log(), p)), says="logarithms of"),
        Wrong("sign", _stable(exponent=lambda d, s, p: p + d / (2 * s**2)), says="wrong sign"),
        Wrong(
            "prior forgotten", _stable(exponent=lambda d, s, p: -d / (2 * s**2)), says="log prior is missing"
        ),
        Wrong(
            "prior not in logs",
            _stable(exponent=lambda d, s, p: p.exp() - d / (2 * s**2)),
            says="need its logarithm",
        ),
        Wrong(
            "sigma for its square", _stable(exponent=lambda d, s, p: p - d / (2 * s)), says="where σ² belongs"
        ),
        Wrong("no half", _stable(exponent=lambda d, s, p: p - d / s**2), says="one half"),
        Wrong(
            "root of the distance",
            _stable(exponent=lambda d, s, p: p - d.sqrt() / (2 * s**2)),
            says="squared",
        ),
        Wrong("no constant", _stable(constant=lambda dim, s: 0.0), says="lacks the Gaussian's constant"),
        Wrong(
            "constant of one dimension",
            _stable(constant=lambda dim, s: -0.5 * math.log(2 * math.pi * s**2)),
            says="factor D",
        ),
        Wrong("maximum not added back", _stable(back=lambda m: 0 * m), says="not added back"),
        Wrong("density", _stable(finish=lambda r, p: (r, p.exp())), says="return its logarithm"),
        Wrong("one thing", _stable(finish=lambda r, p: r), says="two things"),
        Wrong("softmax over the batch", over_the_batch, says="over the batch"),
    ],
    "ex-ancestral": [
        Wrong("no prior", _story(score=lambda p, g: g), says="equally often"),
        Wrong("likeliest", likeliest, says="always the likeliest"),
        Wrong("probabilities plus noise", _story(score=lambda p, g: p.exp() + g), says="their logarithms"),
        Wrong("noise subtracted", _story(score=lambda p, g: p - g), says="wrong sign"),
        Wrong(
            "variance for deviation",
            _story(spread=lambda v, c: v[c].exp().unsqueeze(-1)),
            says="multiplied by the variance",
        ),
        Wrong(
            "log variance for deviation",
            _story(spread=lambda v, c: v[c].unsqueeze(-1)),
            says="log variance",
        ),
        Wrong("blended by pi", _story(mean=lambda mu, c, p, g: p.exp() @ mu), says="do not blend"),
        Wrong(
            "blended by a softmax",
            _story(mean=lambda mu, c, p, g: (p + g).softmax(-1) @ mu),
            says="one parent",
        ),
        Wrong(
            "one width for all",
            _story(spread=lambda v, c: (0.5 * v).exp().mean()),
            says="width of the code that was drawn",
        ),
        Wrong("no noise", _story(spread=lambda v, c: 0.0), says="do not miss"),
        Wrong("no widths", _story(spread=lambda v, c: 1.0), says="widths are not used"),
        Wrong(
            "divided by the deviation",
            _story(spread=lambda v, c: (-0.5 * v[c]).exp().unsqueeze(-1)),
            says="divided",
        ),
        Wrong("codes as floats", float_codes, says="int64"),
        Wrong("points only", lambda p, m, v, g, n: _story()(p, m, v, g, n)[1], says="two things"),
    ],
    "ex-normaliser": [
        Wrong("as given", _widths(lambda d, v: 0.0), says="still missing"),
        Wrong("sign", _widths(lambda d, v: -0.5 * d * v), says="rewarded"),
        Wrong("one dimension", _widths(lambda d, v: 0.5 * v), says="one dimension"),
        Wrong("twice", _widths(lambda d, v: d * v), says="not -D log_var"),
        Wrong("variance for its log", _widths(lambda d, v: 0.5 * d * v.exp()), says="its logarithm"),
        Wrong("average width", _widths(lambda d, v: 0.5 * d * v.mean()), says="still missing, or the same"),
        Wrong(
            "after the softmax",
            _widths(lambda d, v: 0.5 * d * v, finish=lambda b, h: b.softmax(-1) * (-h).exp()),
            says="after the softmax",
        ),
        Wrong("prior lost", no_prior, says="log prior"),
        Wrong("log_var as variance", _widths(lambda d, v: 0.5 * d * v, var=lambda v: v), says="exponential"),
    ],
    "ex-mixing": [
        Wrong(
            "rules exchanged",
            _blend(lambda y, v, rule: _right(y, v, "deviation" if rule == "variance" else "variance")),
            says="exchanged",
        ),
        Wrong(
            "own noise",
            _blend(lambda y, v, rule: (y.square() * v).sum(-1, keepdim=True).sqrt()),
            says="their own noise",
        ),
        Wrong("no root", _blend(lambda y, v, rule: (y * v).sum(-1, keepdim=True)), says="take the root"),
        Wrong(
            "squared",
            _blend(lambda y, v, rule: (y * v.sqrt()).sum(-1, keepdim=True).square()),
            says="squared",
        ),
        Wrong("no noise", _blend(lambda y, v, rule: 0.0), says="not used"),
        Wrong(
            "no weights",
            _blend(lambda y, v, rule: v.sum(-1, keepdim=True).sqrt()),
            says="without the weights",
        ),
        Wrong(
            "deviations without weights",
            _blend(lambda y, v, rule: v.sqrt().sum(-1, keepdim=True)),
            says="without the weights",
        ),
        Wrong(
            "size of the winner",
            _blend(lambda y, v, rule: v.sqrt().gather(-1, y.argmax(-1, keepdim=True))),
            says="blend the sizes",
        ),
        Wrong(
            "mean of the winner", _blend(_right, mean=lambda y, mu: mu[y.argmax(-1)]), says="blend the means"
        ),
        Wrong("noise subtracted", _blend(lambda y, v, rule: -_right(y, v, rule)), says="subtracted"),
        Wrong(
            "keepdim forgotten",
            lambda y, mu, var, noise, rule: y @ mu + _right(y, var, rule).squeeze(-1) * noise,
            says="must match the size",
        ),
    ],
}

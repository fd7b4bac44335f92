"""Plausible wrong answers to the exercises of chapter 5."""

from __future__ import annotations

import torch
from torch.nn.functional import one_hot
from wrong import Wrong


def _expected(q, grades):
    return (q * grades).sum(-1, keepdim=True)


def no_average(grades, logits):
    return logits.softmax(-1) * grades


def uphill(grades, logits):
    q = logits.softmax(-1)
    return q * (_expected(q, grades) - grades)


def plain_mean(grades, logits):
    return logits.softmax(-1) * (grades - grades.mean(-1, keepdim=True))


def no_q(grades, logits):
    return grades - _expected(logits.softmax(-1), grades)


def diagonal_only(grades, logits):
    q = logits.softmax(-1)
    return q * (1 - q) * grades


def no_softmax(grades, logits):
    return logits * (grades - _expected(logits, grades))


def over_the_batch(grades, logits):
    q = logits.softmax(0) if logits.ndim > 1 else logits.softmax(-1)
    return q * (grades - _expected(q, grades))


def whole_batch(grades, logits):
    q = logits.softmax(-1)
    return q * (grades - (q * grades).sum())


def expectation(grades, logits):
    return (logits.softmax(-1) * grades).sum(-1)


def repeated_expectation(grades, logits):
    return _expected(logits.softmax(-1), grades).expand_as(grades)


def twice_q(grades, logits):
    q = logits.softmax(-1)
    return q * q * (grades - _expected(q, grades))


def no_keepdim(grades, logits):
    q = logits.softmax(-1)
    return q * (grades - (q * grades).sum(-1))


def _corner(scores):
    return one_hot(scores.argmax(-1), scores.shape[-1]).float()


def _sample(*, blend=None, corner=None, join=lambda corner, y, logits: corner + y - y.detach()):
    """The layer with one part replaced."""

    def st_gumbel(logits, noise, temperature):
        y = (
            ((logits + noise) / temperature).softmax(-1)
            if blend is None
            else blend(logits, noise, temperature)
        )
        hard = _corner(y if corner is None else corner(logits, noise, temperature))
        return join(hard, y, logits)

    return st_gumbel


def _control(*, keep=1.0, tangent=1.0, level=1.0, through=lambda q, d: q * (d - q @ d)):
    """The estimate with a part left out or replaced."""

    def control_variate(f, logits, codes):
        q = logits.softmax(-1)
        slope = torch.func.grad(f)(q)
        corners = one_hot(codes, len(q)).to(q)
        s = corners - q
        h = level * f(q) + s @ slope
        return (f(corners) - tangent * h)[:, None] * s + keep * through(q, slope)

    return control_variate


BANK = {
    "ex-enumeration": [
        Wrong("no baseline", no_average, says="should cancel"),
        Wrong("sign", uphill, says="uphill"),
        Wrong("plain mean", plain_mean, says="weighted by the probabilities"),
        Wrong("factor q missing", no_q, says="factor q is missing"),
        Wrong("Jacobian's diagonal only", diagonal_only, says="diagonal"),
        Wrong("logits for probabilities", no_softmax, says="take the softmax first"),
        Wrong("softmax over the batch", over_the_batch, says="runs over the batch"),
        Wrong("one mean for the batch", whole_batch, says="each row has its own"),
        Wrong("the expectation", expectation, says="return its gradient"),
        Wrong("the expectation repeated", repeated_expectation, says="once for each code"),
        Wrong("the grades", lambda grades, logits: 1 * grades, says="go on to the logits"),
        Wrong("q squared", twice_q, says="add up to"),
        Wrong("keepdim forgotten", no_keepdim, says="at the line"),
        Wrong(
            "a number", lambda grades, logits: no_average(grades, logits).sum().item(), says="tensor of shape"
        ),
    ],
    "ex-st-gumbel": [
        Wrong(
            "noise subtracted",
            _sample(blend=lambda a, g, t: ((a - g) / t).softmax(-1)),
            says="wrong sign: it is added",
        ),
        Wrong("hard without the soft gradient", _sample(join=lambda c, y, a: c), says="no gradient reaches"),
        Wrong("whole numbers", _sample(join=lambda c, y, a: c.long()), says="no gradient reaches"),
        Wrong("soft only", _sample(join=lambda c, y, a: y), says="the blend itself"),
        Wrong("hard plus soft", _sample(join=lambda c, y, a: c + y), says="corner plus blend"),
        Wrong("hard minus soft", _sample(join=lambda c, y, a: c - y.detach()), says="corner minus blend"),
        Wrong("nothing detached", _sample(join=lambda c, y, a: c + y - y), says="only its value"),
        Wrong(
            "bracket backwards",
            _sample(join=lambda c, y, a: c - y + y.detach()),
            says="wrong sign: the blend",
        ),
        Wrong(
            "temperature on the noise",
            _sample(blend=lambda a, g, t: (a + g / t).softmax(-1)),
            says="divides the noise only",
        ),
        Wrong(
            "temperature on the logits",
            _sample(blend=lambda a, g, t: (a / t + g).softmax(-1)),
            says="divides the logits only",
        ),
        Wrong(
            "temperature times noise",
            _sample(blend=lambda a, g, t: (a + t * g).softmax(-1)),
            says="multiplies the noise",
        ),
        Wrong(
            "temperature forgotten",
            _sample(blend=lambda a, g, t: (a + g).softmax(-1)),
            says="does not know the temperature",
        ),
        Wrong(
            "no noise",
            _sample(blend=lambda a, g, t: (a / t).softmax(-1)),
            says="noise is not used",
        ),
        Wrong(
            "noise in the forward pass only",
            _sample(blend=lambda a, g, t: (a / t).softmax(-1), corner=lambda a, g, t: a + g),
            says="same noise",
        ),
        Wrong(
            "through q",
            _sample(blend=lambda a, g, t: a.softmax(-1), corner=lambda a, g, t: a + g),
            says="goes through q",
        ),
        Wrong(
            "logits in the bracket",
            _sample(join=lambda c, y, a: c + a - a.detach()),
            says="Jacobian of the softmax is missing",
        ),
        Wrong(
            "noise on probabilities",
            _sample(blend=lambda a, g, t: ((a.softmax(-1) + g) / t).softmax(-1)),
            says="added to the probabilities",
        ),
        Wrong("argmin", _sample(corner=lambda a, g, t: -(a + g)), says="argmin"),
        Wrong("index", lambda logits, noise, temperature: (logits + noise).argmax(-1), says="has shape"),
        Wrong(
            "fresh noise",
            lambda logits, noise, temperature: torch.nn.functional.gumbel_softmax(
                logits, temperature, hard=True
            ),
            says="argmax(logits + noise)",
        ),
    ],
    "ex-control-variate": [
        Wrong("mean not added back", _control(keep=0.0), says="biased"),
        Wrong("mean subtracted", _control(keep=-1.0), says="added back"),
        Wrong("tangent not subtracted", _control(tangent=0.0), says="counts twice"),
        Wrong("slope for its mean", _control(through=lambda q, d: d), says="The slope itself"),
        Wrong("no level", _control(level=0.0), says="lacks f(q)"),
        Wrong("diagonal only", _control(through=lambda q, d: q * (1 - q) * d), says="the mean"),
        Wrong(
            "known mean alone",
            lambda f, logits, codes: (
                _control(tangent=0.0)(f, logits, codes) - _control(tangent=0.0, keep=0.0)(f, logits, codes)
            ),
            says="the correction is missing",
        ),
        Wrong(
            "score function",
            lambda f, logits, codes: _control(tangent=0.0, keep=0.0)(f, logits, codes),
            says="For a linear loss",
        ),
        Wrong("one estimate", lambda f, logits, codes: _control()(f, logits, codes).mean(0), says="shape"),
    ],
}

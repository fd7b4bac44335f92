"""Plausible wrong answers to the exercises of chapter 11."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import normalize
from wrong import Wrong

from vqbook.topics import npmi


def _bag(
    *, unit=True, score=lambda z, c: -torch.cdist(z, c), once=False, share=False, only=None, turned=False
):
    """The bag with a part replaced."""

    def bag_of_concepts(points, codebook, near, document, num_documents):
        z = normalize(points, dim=-1) if unit else points
        codes = score(z, codebook).topk(only or near).indices
        bag = torch.zeros(num_documents, len(codebook))
        if once:
            bag[document[:, None], codes] += 1
        else:
            rows = document[:, None].expand_as(codes)
            bag.index_put_((rows, codes), torch.ones(codes.shape), accumulate=True)
        if share:
            bag = bag / near if share == "near" else bag / bag.sum(1, keepdim=True).clamp_min(1)
        return bag.T if turned else bag

    return bag_of_concepts


def marks_of_tokens(points, codebook, near, document, num_documents):
    codes = torch.cdist(normalize(points, dim=-1), codebook).topk(near, largest=False).indices
    return torch.zeros(len(points), len(codebook)).scatter_(1, codes, 1.0)


def cosine(z, codebook):
    return z @ normalize(codebook, dim=-1).T


def _evidence(*, weight="mixture", average="log", half=True, prior=True, root=True):
    """The estimate with a part replaced."""

    def log_evidence(log_lik, eta, mean, var, prior_mean, prior_var):
        def density(m, v):
            return torch.distributions.Normal(m, v.sqrt() if root else v).log_prob(eta).sum(-1)

        log_p, log_q = density(prior_mean, prior_var), density(mean, var)
        below = log_q if weight == "guess" else torch.logaddexp(log_p, log_q) - (math.log(2) if half else 0)
        log_w = log_lik + (log_p if prior else 0) - below
        if weight == "none":
            log_w = log_lik
        if average == "mean":
            return log_w.mean()
        if average == "exp":
            return log_w.exp().mean().log()
        return log_w.logsumexp(0) - (math.log(len(eta)) if average == "log" else 0)

    return log_evidence


def every_draw(log_lik, eta, mean, var, prior_mean, prior_var):
    return log_lik


def _held_out(*, vectors="train", stop="validation", fit="train", count="test", attach=True, whole=False):
    """The measure with a part replaced."""

    def held_out_npmi(corpus, learn_vectors, make_model, seed):
        train, validation, test = corpus.split(seed=seed)
        parts = {"train": train, "validation": validation, "test": test, "all": corpus, "none": None}
        learned = learn_vectors(parts[vectors])
        if vectors == "all":
            corpus = corpus.with_vectors(learned)
            train, validation, test = corpus.split(seed=seed)
        elif attach and fit == vectors:
            train = parts[fit].with_vectors(learned)
        given = train if fit == "train" else parts[fit]
        model = (
            make_model().fit(given, parts[stop]) if attach else make_model().fit(parts["train"], parts[stop])
        )
        scores = npmi(model.top_ids(10), parts[count])
        return scores if whole else float(scores.mean())

    return held_out_npmi


def other_split(corpus, learn_vectors, make_model, seed):
    train, validation, test = corpus.split(seed=seed + 1)
    train = train.with_vectors(learn_vectors(train))
    return float(npmi(make_model().fit(train, validation).top_ids(10), test).mean())


def five_words(corpus, learn_vectors, make_model, seed):
    train, validation, test = corpus.split(seed=seed)
    train = train.with_vectors(learn_vectors(train))
    return float(npmi(make_model().fit(train, validation).top_ids(10), test)[0])


BANK = {
    "ex-tv-multihot": [
        Wrong("repeated pairs lost", _bag(once=True), says="counts are lost"),
        Wrong("points not on the sphere", _bag(unit=False), says="unit sphere"),
        Wrong("inner product", _bag(score=lambda z, c: z @ c.T), says="prefers long ones"),
        Wrong("cosine", _bag(score=cosine), says="codes were normalised"),
        Wrong("farthest", _bag(score=torch.cdist), says="farthest"),
        Wrong("a token counts one", _bag(share="near"), says="each of its codes counts one"),
        Wrong("shares", _bag(share="all"), says="shares"),
        Wrong("nearest only", _bag(only=1), says="mark `near`"),
        Wrong("transposed", _bag(turned=True), says="transposed"),
        Wrong("marks of tokens", marks_of_tokens, says="add up"),
    ],
    "ex-tv-evidence": [
        Wrong("mean of logarithms", _evidence(average="mean"), says="log of the mean"),
        Wrong("sum", _evidence(average="sum"), says="log S"),
        Wrong("exp underflows", _evidence(average="exp"), says="stay with logarithms"),
        Wrong("guess alone", _evidence(weight="guess"), says="divide all by the mixture"),
        Wrong("sum of densities", _evidence(half=False), says="mean of both"),
        Wrong("no prior", _evidence(prior=False), says="prior is missing"),
        Wrong("no weights", _evidence(weight="none"), says="weights are missing"),
        Wrong("variance for deviation", _evidence(root=False), says="standard deviations"),
        Wrong("a number a draw", every_draw, says="one number"),
    ],
    "ex-tv-heldout": [
        Wrong("vectors from everything", _held_out(vectors="all"), says="split first"),
        Wrong("stop on test", _held_out(stop="test"), says="stops early on test"),
        Wrong("stop on train", _held_out(stop="train"), says="stop early on the validation"),
        Wrong("nothing to stop on", _held_out(stop="none"), says="nothing to stop early on"),
        Wrong("counted everywhere", _held_out(count="all"), says="all documents"),
        Wrong("counted in train", _held_out(count="train"), says="training documents"),
        Wrong("counted in validation", _held_out(count="validation"), says="validation documents"),
        Wrong("vectors not attached", _held_out(attach=False), says="without vectors"),
        Wrong("fitted on everything", _held_out(fit="all"), says="not fitted on the training"),
        Wrong("another split", other_split, says="test documents"),
        Wrong("one topic", five_words, says="expected"),
        Wrong("a list of topics", _held_out(whole=True), says="one number"),
    ],
}  # fmt: skip

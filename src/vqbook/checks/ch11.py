"""Checks of chapter 11, Topic-VQ-VAE for documents: bags of codes, evidence by sampling, held-out coherence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vqbook.checks import check, describe, expect_close, expect_shape, fail
from vqbook.topics import Corpus, Vectors, npmi

Answer = Callable[..., Any]


def _counted(codes: Tensor, document: Tensor, num_documents: int, num_codes: int) -> Tensor:
    at = (document[:, None] * num_codes + codes).flatten()
    return torch.bincount(at, minlength=num_documents * num_codes).view(num_documents, num_codes).float()


@check("ex-tv-multihot", takes="points, codebook, near, document, num_documents")
def bag(answer: Answer, rng: torch.Generator) -> str:
    """(N, M) counts of the nearest codes of each document's tokens, on the sphere, by distance."""
    n, N, M, D = 240, 7, 9, 4
    points = 3 * torch.randn(n, D, generator=rng)
    lengths = 0.2 + 1.6 * torch.rand(M, 1, generator=rng)
    codebook = lengths * normalize(torch.randn(M, D, generator=rng), dim=-1)
    document = torch.randint(N - 2, (n,), generator=rng)
    document[document == 2] = N - 1  # documents 2 and N - 2 stay empty
    z = normalize(points, dim=-1)

    def by(score: Tensor, near: int) -> Tensor:  # the largest scores win
        return _counted(score.topk(near).indices, document, N, M)

    for near in (1, 3):
        right = by(-torch.cdist(z, codebook), near)
        value = answer(points.clone(), codebook.clone(), near, document.clone(), N)
        if isinstance(value, Tensor) and tuple(value.shape) == (M, N):
            fail(f"the bag is transposed: documents are rows, expected ({N}, {M}), got {tuple(value.shape)}.")
        if isinstance(value, Tensor) and tuple(value.shape) == (n, M):
            fail("these are the marks of tokens; add up those of each document.")
        expect_shape(value, (N, M), "the bag")
        value = value.double()
        one = by(-torch.cdist(z, codebook), 1)
        slips = {
            "Counts are lost: a document that has a code twice counts it once. `bag[document, codes] += 1` writes a "
            "repeated pair only once.": (right > 0).double(),
            "The points are not on the unit sphere: divide each by its length first.": by(
                -torch.cdist(points, codebook), near
            ),
            "The codes were normalised: nearness is the distance to the code as it is, and codes have lengths of "
            "their own.": by(z @ normalize(codebook, dim=-1).T, near),
            "The inner product chose the codes: it prefers long ones. Use the distance.": by(
                z @ codebook.T, near
            ),
            "These are the farthest codes: the smallest distance wins.": by(torch.cdist(z, codebook), near),
            "Each token counts one in all; here each of its codes counts one.": right / near,
            "Only the nearest code of each token is counted; mark `near` of them.": one,
            "Rows sum to one: these are shares, the bag holds counts.": right
            / right.sum(1, keepdim=True).clamp_min(1),
        }
        for message, wrong in slips.items():
            if torch.allclose(value, wrong.double()) and not torch.allclose(value, right.double()):
                fail(message)
        expect_close(value, right, name="the bag")
    return "counts of the nearest codes on the sphere, repeated ones and empty documents too."


@check("ex-tv-evidence", takes="log_lik, eta, mean, var, prior_mean, prior_var")
def evidence(answer: Answer, rng: torch.Generator) -> str:
    """log of the mean of p(c, w | eta) p(eta) over the half-and-half mixture of guess and prior."""
    for T, S, level in ((2, 40, -3.0), (5, 24, -4000.0)):
        mean, prior_mean = torch.randn(2, T, generator=rng)
        var = 0.1 + 0.3 * torch.rand(T, generator=rng)
        prior_var = 0.5 + torch.rand(T, generator=rng)
        noise = torch.randn(S, T, generator=rng)
        eta = torch.cat(
            [mean + var.sqrt() * noise[: S // 2], prior_mean + prior_var.sqrt() * noise[S // 2 :]]
        )
        log_lik = level + 2 * torch.randn(S, generator=rng)

        def density(m: Tensor, v: Tensor, eta: Tensor = eta) -> Tensor:
            return torch.distributions.Normal(m, v.sqrt()).log_prob(eta).sum(-1)

        log_p, log_q = density(prior_mean, prior_var), density(mean, var)
        both = torch.logaddexp(log_p, log_q) - math.log(2)
        log_w = log_lik + log_p - both

        def averaged(x: Tensor, S: int = S) -> float:
            return (x.logsumexp(0) - math.log(S)).item()

        right = averaged(log_w)
        found = answer(log_lik, eta, mean, var, prior_mean, prior_var)
        value = found.detach() if isinstance(found, Tensor) else found
        if isinstance(value, Tensor) and value.numel() != 1:
            fail(f"expected one number for the document, got {describe(value)}.")
        try:
            value = float(value)
        except (TypeError, ValueError):
            fail(f"expected a number, got {describe(found)}.")
        if not math.isfinite(value):
            fail(
                f"the estimate is {value}: exp of {level:.0f} is zero. Stay with logarithms: logsumexp, logaddexp."
            )
        std = density(prior_mean, prior_var**2), density(mean, var**2)
        slips = {
            "This is the mean of the logarithms, a bound. The evidence is the log of the mean.": log_w.mean().item(),
            "The weights are summed; their mean is asked for: take log S off.": log_w.logsumexp(0).item(),
            "The draws are divided by the guess's density alone; half of them come from the prior. Divide all by the "
            "mixture.": averaged(log_lik + log_p - log_q),
            "The mixture is half of each: its density is the mean of both, not the sum.": averaged(
                log_w - math.log(2)
            ),
            "The prior is missing in the weights: p(c, w | eta) times p(eta) over the mixture.": averaged(
                log_lik - both
            ),
            "The weights are missing: a plain mean of likelihoods, although half come from the guess.": averaged(
                log_lik
            ),
            "Variances were taken for standard deviations.": averaged(
                log_lik + std[0] - torch.logaddexp(*std) + math.log(2)
            ),
        }
        for message, wrong in slips.items():
            if math.isclose(value, wrong, rel_tol=1e-6, abs_tol=1e-3) and abs(value - right) > 2e-3:
                fail(message)
        expect_close(torch.tensor(value), right, name="the estimate", atol=2e-3, rtol=1e-6)
    return "the logarithm of a mean of weights that never exceed twice a likelihood."


def _toy(rng: torch.Generator) -> Corpus:
    draws = np.random.default_rng(int(torch.randint(2**31, (), generator=rng)))
    lengths = draws.integers(20, 40, 60)
    tokens = draws.integers(24, size=lengths.sum()).astype(np.int32)
    return Corpus([f"w{i}" for i in range(24)], tokens, np.concatenate([[0], lengths.cumsum()]))


@check("ex-tv-heldout", takes="corpus, learn_vectors, make_model, seed")
def held_out(answer: Answer, rng: torch.Generator) -> str:
    """Vectors and topics from train, early stopping on validation, coherence in test."""
    for seed in (0, 3):
        corpus = _toy(rng)
        train, validation, test = corpus.split(seed=seed)
        seen: dict[str, Any] = {}
        topics = torch.stack([torch.randperm(24, generator=rng)[:10] for _ in range(4)]).numpy()

        def learn_vectors(part: Corpus, seen: dict[str, Any] = seen) -> Vectors:
            seen["vectors"] = set(part.kept.tolist())
            return Vectors("toy", np.eye(24, dtype=np.float32), part.tokens)

        class Model:
            def __init__(self, seen: dict[str, Any] = seen, topics: np.ndarray = topics) -> None:
                self.seen, self.topics = seen, topics

            def fit(self, part: Corpus, validation: Corpus | None = None) -> Model:
                self.seen["fit"] = set(part.kept.tolist())
                self.seen["stop"] = None if validation is None else set(validation.kept.tolist())
                self.seen["given"] = part.vectors is not None
                return self

            def top_ids(self, n: int = 10, ranking: str = "own") -> np.ndarray:
                return self.topics[:, :n]

        value = answer(corpus, learn_vectors, Model, seed)
        if "fit" not in seen:
            fail("no model was fitted: make one with make_model() and call its fit.")
        if "vectors" not in seen:
            fail("no vectors were learned: call learn_vectors.")
        parts = {name: set(p.kept.tolist()) for name, p in zip(("train", "test"), (train, test), strict=True)}
        if seen["vectors"] & parts["test"]:
            fail("the vectors have learned from test documents: split first, then learn vectors from train.")
        if seen["vectors"] != parts["train"]:
            fail("the vectors should learn from the training documents, all of them and no others.")
        if seen["fit"] != parts["train"]:
            fail(
                "the model was not fitted on the training documents of corpus.split(seed=seed), all and no others."
            )
        if not seen["given"]:
            fail("the training corpus reached the model without vectors: with_vectors makes a new corpus.")
        if seen["stop"] is None:
            fail("the model has nothing to stop early on: give it the validation documents.")
        if seen["stop"] & parts["test"]:
            fail("the model stops early on test documents: that is learning, too. Use validation.")
        if seen["stop"] != set(validation.kept.tolist()):
            fail("the model should stop early on the validation documents, all and no others.")
        right = {name: float(npmi(topics, p).mean()) for name, p in (("test", test), ("train", train))}
        right |= {
            "validation": float(npmi(topics, validation).mean()),
            "all": float(npmi(topics, corpus).mean()),
        }
        try:
            number = float(value)
        except (TypeError, ValueError):
            fail(f"expected one number, the mean over topics, got {describe(value)}.")
        where = {"train": "training", "validation": "validation", "all": "all"}
        for name, words in where.items():
            if math.isclose(number, right[name], abs_tol=1e-9):
                fail(f"coherence is counted in {words} documents; count it in those of the test only.")
        if not math.isclose(number, right["test"], rel_tol=1e-6, abs_tol=1e-9):
            fail(f"the result is {number:.5f}; expected {right['test']:.5f}, the mean NPMI of ten words.")
    return "the test documents meet nothing but the count."

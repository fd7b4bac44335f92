"""Proofs of chapter 11: bags of codes, the two heads and their bound, rankings, starts, what a code knows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import mse_loss, normalize

from proofs import largest, proof
from vqbook.topics import ConceptualWords, SoftConceptualWords, bag_of_codes
from vqbook.topics.bags import Bags
from vqbook.topics.rankings import balanced, distinctive
from vqbook.topics.tvqnet import TVQNet

MODELS = 10


def entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def bags(rows: int, columns: int) -> Bags:
    """Random sparse counts."""
    from scipy.sparse import csr_matrix

    return Bags(csr_matrix((torch.rand(rows, columns) * 4).floor().numpy().astype(np.float32)))


def small_net(T: int, *, background: bool = True, spread: float = 1.0) -> TVQNet:
    """A network with random weights in double precision."""
    M, V, D = 6, 9, 4
    frequencies = (10 * torch.rand(M), 10 * torch.rand(V)) if background else None
    net = TVQNet(torch.randn(M, D), normalize(torch.randn(V, D), dim=-1), T, frequencies=frequencies).double()
    with torch.no_grad():
        net.beta.copy_(spread * torch.randn(T, M))
        net.prior_mean.copy_(torch.randn(T))
        net.prior_log_var.copy_(0.4 * torch.randn(T))
        if background:
            net.gains.copy_(0.5 + torch.rand(2))
    return net


def on_a_grid(net: TVQNet, codes: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Differences u of two logits, log likelihoods (B, points), the prior's log density with the step's width."""
    mean, var = net.prior_mean, net.prior_log_var.exp()
    prior = Normal(mean[0] - mean[1], var.sum().sqrt())
    u = prior.mean + prior.stddev * torch.linspace(-12, 12, 24_001)
    theta = torch.stack([u.sigmoid(), (-u).sigmoid()], 1)
    log_lik = codes @ net.code_logits(theta).log_softmax(-1).T
    log_lik = log_lik + words @ net.word_logits(theta).log_softmax(-1).T
    return u, log_lik, prior.log_prob(u) + (u[1] - u[0]).log()


@proof("eq-tv-multihot", kind="random models", tolerance=1e-12)
def marks_and_bags() -> float:
    """Each token's distances sorted one by one, marks added up, against the library's sparse bag; totals are k times
    the tokens."""
    errors = []
    for k in (1, 3, 5):
        n, N, M = 40, 6, 12
        rho = 0.5 * torch.randn(M, 3)
        z = normalize(torch.randn(n, 3), dim=-1)
        starts = np.array([0, 5, 5, 18, 25, 33, n])
        codes = torch.cdist(z, rho).argsort(-1)[:, :k]
        bag = torch.zeros(N, M)
        for d, (a, b) in enumerate(itertools.pairwise(starts)):
            for row in codes[a:b]:
                bag[d, row] += 1
        found = bag_of_codes(np.arange(n), starts, codes.int().numpy(), M).toarray()
        errors.append(torch.from_numpy(found).double() - bag)
        errors.append(bag.sum(1) - k * torch.from_numpy(np.diff(starts)).double())
    return largest(*errors)


@proof("eq-tv-vq", kind="random models", tolerance=1e-5)
def loss_of_expansion() -> float:
    """The loss written out from the k nearest codes, their sum and the decoder, against the library's; single
    precision."""
    errors = []
    for near in (1, 3):
        words = ConceptualWords(num_codes=9, dim=4, hidden=(7,), near=near, revive_after=None).build(6)
        words = words.float()
        e = torch.randn(20, 6).float()
        with torch.no_grad():
            z = normalize(words.encoder(e), dim=-1)
            codes = torch.cdist(z, words.codebook).argsort(-1)[:, :near]
            z_q = words.codebook[codes].sum(1)
            right = mse_loss(words.decoder(z_q), e) + 1.25 * mse_loss(z_q, z)
            errors.append(words.loss(e)[0] - right)
    return largest(*errors)


@proof("eq-tv-length", kind="random models", tolerance=1e-12)
def lengths_of_codes() -> float:
    """k vectors of that length and mean cosine add up to length one, for random vectors; the two ends are five equal
    ones and five at right angles."""
    errors = []
    for k in (2, 5, 9):
        unit = normalize(torch.randn(k, 40) + torch.rand(()), dim=-1)
        cosine = (unit.sum(0).square().sum() - k) / (k * (k - 1))
        r = 1 / (k * (1 + (k - 1) * cosine)).sqrt()
        errors.append((r * unit).sum(0).norm() - 1)
        for q, end in ((1.0, 1 / k), (0.0, 1 / math.sqrt(k))):
            errors.append(torch.tensor(1 / math.sqrt(k * (1 + (k - 1) * q)) - end))
    return largest(*errors)


@proof("eq-tv-heads", kind="random models", tolerance=1e-6)
def two_heads() -> float:
    """Both heads of random networks from topic directions, logits, batch moments, gains and backgrounds, against the
    library's network in training mode."""
    errors = []
    for _ in range(MODELS):
        net = small_net(3).train()
        theta = torch.randn(30, 3).softmax(-1)

        def normed(x: Tensor) -> Tensor:
            return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()

        t = normalize(net.beta @ net.rho, dim=-1)
        g, b_c, b_w = net.gains, net.code_background, net.word_background
        codes = (g[0] * normed(theta @ net.beta) + b_c).log_softmax(-1)
        words = (g[1] * normed(theta @ (t @ net.reader.T)) + b_w).log_softmax(-1)
        errors.append((net.code_logits(theta).log_softmax(-1) - codes).detach())
        errors.append((net.word_logits(theta).log_softmax(-1) - words).detach())
    return largest(*errors)


@proof("eq-tv-bound", "eq-tv-gap", kind="quadrature", tolerance=1e-6)
def bound_and_gap() -> float:
    """Two topics: evidence, expected log likelihood and the guess's divergence from the posterior, all integrated over
    the difference of the logits; the divergence from the prior as the closed form has it for the difference. Evidence
    less the gap is the bound, and no bound lies above."""
    errors = []
    for _ in range(MODELS):
        net = small_net(2).eval()
        codes, words = bags(4, 6), bags(4, 9)
        c, w = codes.batch(torch.arange(4)).dense().double(), words.batch(torch.arange(4)).dense().double()
        with torch.no_grad():
            u, log_lik, log_prior = on_a_grid(net, c, w)
            log_p = (log_lik + log_prior).logsumexp(-1)
            guess = Normal(torch.randn(4, 1), 0.2 + torch.rand(4, 1))
            log_q = guess.log_prob(u) + (u[1] - u[0]).log()
            q = log_q.exp()
            mean, var = net.prior_mean, net.prior_log_var.exp()
            prior = Normal(mean[0] - mean[1], var.sum().sqrt())
            kl = torch.distributions.kl_divergence(guess, prior)[:, 0]
            bound = (q * log_lik).sum(-1) - kl
            posterior = log_lik + log_prior - log_p[:, None]
            gap = (q * (log_q - posterior)).sum(-1)
            errors += [log_p - bound - gap, (bound - log_p).clamp_min(0)]
    return largest(*errors)


@proof("eq-tv-importance", kind="sampled", tolerance=4.0)
def evidence_by_turns() -> float:
    """Two topics, 4,000 draws in turn from guess and prior: the library's estimate of the log evidence against
    quadrature, in standard errors of 16 repetitions."""
    errors = []
    for _ in range(2):
        net = small_net(2).eval()
        codes, words = bags(3, 6), bags(3, 9)
        one, other = codes.batch(torch.arange(3)), words.batch(torch.arange(3))
        one, other = (x._replace(value=x.value.double()) for x in (one, other))
        with torch.no_grad():
            _, log_lik, log_prior = on_a_grid(net, one.dense(), other.dense())
            exact = (log_lik + log_prior).logsumexp(-1)
            found = torch.stack([net.log_evidence(one, other, 250) for _ in range(16)])
            off = found.logsumexp(0) - math.log(16) - exact
            errors.append(off / (found.exp().std(0) / found.exp().mean(0) / 4).clamp_min(1e-3))
    return largest(*errors)


@proof("eq-tv-blind", kind="enumerated", tolerance=1e-12)
def price_of_not_looking() -> float:
    """Models with five values of η, four of c and six of w, independent given η: both sides for every c and random
    guesses, all sums over all outcomes."""
    errors = []
    for _ in range(MODELS):
        prior, p_c, p_w = (
            torch.randn(5).softmax(-1),
            torch.randn(5, 4).softmax(-1),
            torch.randn(5, 6).softmax(-1),
        )
        for c in range(4):
            q = torch.randn(5).softmax(-1)
            given_c = prior * p_c[:, c] / (prior @ p_c[:, c])
            w_given_c = given_c @ p_w
            posterior = given_c[:, None] * p_w / w_given_c  # (5, 6)
            left = w_given_c @ (q[:, None] * (q[:, None] / posterior).log()).sum(0)
            right = (q * (q / given_c).log()).sum()
            right = right + q @ (w_given_c * (w_given_c / p_w).log()).sum(-1)
            errors.append(left - right)
    return largest(*errors)


@proof("eq-tv-distinctive", kind="random models", tolerance=1e-10)
def distinctive_words() -> float:
    """Both scores of random logits written out, against the library's; a constant added to a word's logits changes
    nothing for distinctive words."""
    errors = []
    for _ in range(MODELS):
        logits = 3 * torch.randn(5, 8)
        x = logits - logits.mean(0)
        x = x / x.std(unbiased=False)
        right = x * (3 * x).softmax(0)
        errors.append(torch.from_numpy(distinctive(logits.numpy())) - right)
        errors.append(torch.from_numpy(distinctive((logits + 5 * torch.randn(8)).numpy())) - right)
        beta = logits.softmax(-1)
        errors.append(torch.from_numpy(balanced(logits.numpy(), beta.numpy())) - right * beta.sqrt())
    return largest(*errors)


@proof("eq-tv-frequency", kind="random models", tolerance=1e-10)
def frequencies_come_from_the_background() -> float:
    """Mean log probabilities of words over a batch, less the background, are the same number for all words; without a
    background they are equal."""
    errors = []
    for background in (True, False):
        for _ in range(MODELS):
            net = small_net(4, background=background).train()
            log_p = net.word_logits(torch.randn(25, 4).softmax(-1)).log_softmax(-1).mean(0).detach()
            rest = log_p - (net.word_background if background else 0)
            errors.append(rest - rest.mean())
    return largest(*errors)


@proof("eq-tv-start", kind="random models", tolerance=1e-12)
def information_and_chi_square() -> float:
    """For random tables of clusters and codes: the squares of the start, averaged over clusters, are φ²; and the
    information never exceeds log(1 + φ²) (what it exceeds it by is the error)."""
    errors = []
    for _ in range(200):
        p = (3 * torch.rand(()) * torch.randn(4, 7)).flatten().softmax(-1).view(4, 7)
        p_t, p_m = p.sum(1), p.sum(0)
        given = p / p_t[:, None]
        start = (given - p_m) / p_m.sqrt()
        phi = (p.square() / (p_t[:, None] * p_m)).sum() - 1
        errors.append(p_t @ start.square().sum(-1) - phi)
        information = (p * (p / (p_t[:, None] * p_m)).log()).sum()
        errors.append((information - (1 + phi).log()).clamp_min(0))
    return largest(*errors)


@proof("eq-tv-batch", kind="random models", tolerance=1e-5)
def logits_of_small_batches() -> float:
    """Normalised logits of random networks in batches of 2 to 6 documents: none above the root of B - 1, all of them
    of size one for B = 2 (experts large enough that the small constant in the variance does not show)."""
    errors = []
    for B in (2, 3, 6):
        for _ in range(MODELS):
            net = small_net(3, background=False).train()
            net.reader.mul_(1e6)
            size = net.word_logits(torch.randn(B, 3).softmax(-1)).abs().detach()
            errors.append((size - math.sqrt(B - 1)).clamp_min(0))
            if B == 2:
                errors.append(size - 1)
    return largest(*errors)


@proof("eq-tv-soft", kind="enumerated", tolerance=1e-5)
def expected_counts() -> float:
    """Three tokens in a document, four codes: the log likelihood of drawn codes, averaged over all 64 outcomes,
    against expected counts; rows sum to the tokens; responsibilities against the library's in single precision."""
    errors = []
    for _ in range(MODELS):
        q, log_p = torch.randn(3, 4).softmax(-1), torch.randn(4).log_softmax(-1)
        drawn = sum(
            math.prod(q[n, m].item() for n, m in enumerate(codes)) * log_p[list(codes)].sum()
            for codes in itertools.product(range(4), repeat=3)
        )
        bag = q.sum(0)
        errors += [drawn - bag @ log_p, bag.sum() - 3]
    words = SoftConceptualWords(num_codes=5, dim=4, hidden=(6,), near=5, steps=3, batch=8)
    table = torch.randn(30, 6).float().numpy()
    words.fit(table)
    z, mu, scale = words.encode(table), words.codebook, words.quantizer.weights.detach()
    square = (scale * (z[:, None] - mu).square()).sum(-1)
    right = (words.quantizer.log_prior.detach() - square / 2).softmax(-1)
    errors.append((words.responsibilities(table) - right).double())
    return largest(*errors)


@proof("eq-tv-chain", kind="enumerated", tolerance=1e-12)
def information_of_a_code() -> float:
    """Corpora of 12 tokens in 4 documents with random posteriors over 5 codes: the three informations, each from its
    own joint table."""

    def information(joint: Tensor) -> Tensor:
        outer = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        return (joint * (joint / outer).log()).sum()

    errors = []
    for _ in range(MODELS):
        p_x, q = torch.randn(12).softmax(-1), (3 * torch.randn(12, 5)).softmax(-1)
        joint = p_x[:, None] * q
        by_document = joint.view(4, 3, 5)
        p_d = by_document.sum((1, 2))
        within = sum(p * information(part / p) for p, part in zip(p_d, by_document, strict=True))
        errors.append(information(joint) - information(by_document.sum(1)) - within)
    return largest(*errors)

"""Proofs of chapter 10: the mixture, Dirichlets and their Gaussians, both bounds, both decoders, and the measures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.special import polygamma
from torch import Tensor

from proofs import largest, proof
from vqbook.topics import Cooccurrence, Corpus, nmi, purity
from vqbook.topics.logistic_normal import kl, laplace_prior

MODELS = 20


def categorical(*shape: int) -> Tensor:
    """Random distributions over the last axis."""
    return (1.5 * torch.randn(*shape)).softmax(-1)


def dirichlet_log_density(theta: Tensor, alpha: Tensor) -> Tensor:
    norm = torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum()
    return norm + ((alpha - 1) * theta.log()).sum(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(-1)


@proof("eq-tm-mixture", kind="enumerated", tolerance=1e-12)
def topics_summed_out() -> float:
    """The probability of a short document, summed over all assignments of topics to its words, against the product of
    mixture probabilities and against its form in counts."""
    errors = []
    for _ in range(MODELS):
        T, V, words = 3, 4, torch.randint(4, (5,))
        theta, beta = categorical(T), categorical(T, V)
        total = sum(
            torch.stack([theta[t] * beta[t, w] for t, w in zip(z, words, strict=True)]).prod()
            for z in itertools.product(range(T), repeat=5)
        )
        mixture = theta @ beta
        counts = words.bincount(minlength=V)
        errors += [total - mixture[words].prod(), total.log() - (counts * mixture.log()).sum()]
    return largest(*errors)


def simplex_grid(steps: int = 400) -> tuple[Tensor, float]:
    """Midpoints of a triangular grid over three proportions, and the area of a cell."""
    u = (torch.arange(steps) + 0.5) / steps
    a, b = torch.meshgrid(u, u, indexing="ij")
    first, second = a, (1 - a) * b  # a stick, broken twice
    theta = torch.stack([first, second, 1 - first - second], -1).reshape(-1, 3)
    return theta, ((1 - a) / steps**2).reshape(-1)


@proof("eq-tm-moments", kind="quadrature", tolerance=1e-3)
def moments_of_a_dirichlet() -> float:
    """Means, second moments and the chance that two words share their topic, for random Dirichlets over three topics on
    a grid of the simplex."""
    theta, area = simplex_grid()
    errors = []
    for _ in range(MODELS):
        alpha = 1 + 4 * torch.rand(3)
        weight = dirichlet_log_density(theta, alpha).exp() * area
        A = alpha.sum()
        errors.append(weight @ theta - alpha / A)
        errors.append(weight @ theta.square() - alpha * (alpha + 1) / (A * (A + 1)))
        one = alpha[0]
        same = (dirichlet_log_density(theta, one.repeat(3)).exp() * area) @ theta.square().sum(-1)
        errors.append(same - (1 + one) / (1 + 3 * one))
    return largest(*errors)


class Document:
    """A random document of five words under two topics, with its exact evidence on a grid."""

    def __init__(self) -> None:
        self.alpha, self.beta = 0.7 + 2 * torch.rand(2), categorical(2, 4)
        self.words = torch.randint(4, (5,))
        u = (torch.arange(40_000) + 0.5) / 40_000
        self.theta = torch.stack([u, 1 - u], -1)
        self.prior = dirichlet_log_density(self.theta, self.alpha)
        log_joint = self.prior + (self.theta @ self.beta)[:, self.words].log().sum(-1)
        self.evidence = log_joint.logsumexp(0) - math.log(40_000)


def long_bound(doc: Document, gamma: Tensor, phi: Tensor) -> Tensor:
    """The bound term by term, with phi (5, 2) for each word."""
    e_log = torch.digamma(gamma) - torch.digamma(gamma.sum())
    q = torch.distributions.Dirichlet(gamma)
    p = torch.distributions.Dirichlet(doc.alpha)
    words = (phi * (e_log + doc.beta[:, doc.words].T.log() - phi.log())).sum()
    return words - torch.distributions.kl_divergence(q, p)


@proof("eq-tm-gap", kind="quadrature", tolerance=1e-4)
def gap_is_a_divergence() -> float:
    """Evidence less bound, against the divergence of q(theta) q(z) from the exact posterior, the assignments of five
    words enumerated and theta integrated on a grid."""
    errors = []
    for _ in range(5):
        doc, gamma, phi = Document(), 1 + 3 * torch.rand(2), categorical(5, 2)
        log_q = dirichlet_log_density(doc.theta, gamma)
        total = torch.zeros(())
        for z in itertools.product(range(2), repeat=5):
            at = torch.tensor(z)
            q_z = phi[torch.arange(5), at].prod()
            log_post = doc.prior + doc.theta[:, at].log().sum(-1) + doc.beta[at, doc.words].log().sum()
            log_post = log_post - doc.evidence
            total = total + q_z * (log_q.exp() * (q_z.log() + log_q - log_post)).mean()
        errors.append(doc.evidence - long_bound(doc, gamma, phi) - total)
    return largest(*errors)


@proof("eq-tm-elog", kind="quadrature", tolerance=1e-4)
def mean_log_proportion() -> float:
    """E log theta under random Dirichlets over two topics, on a grid, against the difference of digammas."""
    errors = []
    for _ in range(MODELS):
        gamma = 1 + 4 * torch.rand(2)
        u = (torch.arange(40_000) + 0.5) / 40_000
        theta = torch.stack([u, 1 - u], -1)
        weight = dirichlet_log_density(theta, gamma).exp() / 40_000
        errors.append(weight @ theta.log() - (torch.digamma(gamma) - torch.digamma(gamma.sum())))
    return largest(*errors)


@proof("eq-tm-updates", "eq-tm-collapsed", kind="random models", tolerance=1e-9)
def updates_are_stationary() -> float:
    """The gradient of the bound in phi after the update of phi, in gamma after the update of gamma; and the long bound
    at the best phi against its short form, for any gamma."""
    errors = []
    for _ in range(MODELS):
        doc = Document()
        gamma = (1 + 3 * torch.rand(2)).requires_grad_()
        e_log = torch.digamma(gamma) - torch.digamma(gamma.sum())
        best = (e_log + doc.beta[:, doc.words].T.log()).detach().softmax(-1)
        logits = best.log().requires_grad_()
        (slope,) = torch.autograd.grad(long_bound(doc, gamma, logits.softmax(-1)), logits)
        errors.append(slope)
        new = (doc.alpha + best.sum(0)).requires_grad_()
        (slope,) = torch.autograd.grad(long_bound(doc, new, best), new)
        errors.append(slope)
        q, p = torch.distributions.Dirichlet(gamma), torch.distributions.Dirichlet(doc.alpha)
        short = (e_log.exp() @ doc.beta)[doc.words].log().sum() - torch.distributions.kl_divergence(q, p)
        errors.append(short - long_bound(doc, gamma, best))
    return largest(*errors)


@proof("eq-tm-mstep", kind="random models", tolerance=1e-9)
def topics_are_stationary() -> float:
    """The slope of the corpus' bound in the logits of the topics, at the normalised expected counts."""
    errors = []
    for _ in range(MODELS):
        counts = torch.randint(0, 5, (6, 7)).double() + 0.1
        phi = categorical(6, 7, 3)  # document, word, topic
        expected = torch.einsum("dv,dvt->tv", counts, phi)
        logits = (expected / expected.sum(-1, keepdim=True)).log().requires_grad_()
        bound = torch.einsum("dv,dvt,tv->", counts, phi, logits.log_softmax(-1))
        errors += torch.autograd.grad(bound, logits)
    return largest(*errors)


@proof("eq-tm-laplace", kind="random models", tolerance=1e-9)
def laplace_in_the_softmax_basis() -> float:
    """At the mean the slope of the log density in eta vanishes; its curvature times C diag(1/alpha) C is the projection
    C; and the diagonal is what the library returns (in single precision, so its part is scaled)."""
    errors = []
    for _ in range(MODELS):
        T = int(torch.randint(2, 9, ()))
        alpha = 0.05 + 3 * torch.rand(T)
        eta = (alpha.log() - alpha.log().mean()).requires_grad_()

        def log_density(e: Tensor, alpha: Tensor = alpha) -> Tensor:
            return (alpha * e.log_softmax(-1)).sum()

        (slope,) = torch.autograd.grad(log_density(eta), eta)
        curvature = -torch.autograd.functional.hessian(log_density, eta.detach())
        C = torch.eye(T) - 1 / T
        covariance = C @ torch.diag(1 / alpha) @ C
        errors += [slope, curvature @ covariance - C]
        found = laplace_prior(alpha.float(), T)
        errors.append(1e-5 * (found.variance.double() / covariance.diagonal() - 1))
        errors.append(1e-5 * (found.mean.double() - eta.detach()))
    return largest(*errors)


@proof("eq-tm-spread", kind="quadrature", tolerance=1e-4)
def spread_of_log_ratios() -> float:
    """The variance of log theta_1 / theta_2 under random Dirichlets over two topics, on a grid of the log ratio,
    against the sum of trigammas; and the Laplace approximation's variance of eta_1 - eta_2."""
    errors = []
    x = torch.linspace(-200, 200, 400_001)
    for _ in range(MODELS):
        alpha = 0.2 + 2 * torch.rand(2)
        log_p = alpha[0] * torch.nn.functional.logsigmoid(x) + alpha[1] * torch.nn.functional.logsigmoid(-x)
        p = log_p.softmax(0)
        variance = p @ x.square() - (p @ x) ** 2
        errors.append(variance - float(polygamma(1, alpha.numpy()).sum()))
        T = 5
        a = 0.2 + 2 * torch.rand(T)
        C = torch.eye(T) - 1 / T
        S, ends = C @ torch.diag(1 / a) @ C, torch.eye(T)[0] - torch.eye(T)[1]
        errors.append(ends @ S @ ends - (1 / a[0] + 1 / a[1]))
    return largest(*errors)


def normal_log_density(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return (-0.5 * ((x - mean).square() / var + (2 * math.pi * var).log())).sum(-1)


@proof("eq-tm-neural", kind="quadrature", tolerance=1e-6)
def neural_bound() -> float:
    """Evidence of a document under two topics in the softmax basis, on a grid of eta, less the bound, against the
    divergence of the guess from the posterior."""
    errors = []
    side = torch.linspace(-9, 9, 601)
    eta = torch.cartesian_prod(side, side)
    cell = math.log((side[1] - side[0]).item() ** 2)
    for _ in range(5):
        B, counts = torch.randn(2, 5), torch.randint(0, 3, (5,)).double()
        m, v = 0.3 * torch.randn(2), 0.4 + torch.rand(2)
        mu, s = torch.randn(2), 0.3 + torch.rand(2)
        words = ((eta.softmax(-1) @ B).log_softmax(-1) * counts).sum(-1)
        log_joint = words + normal_log_density(eta, m, v)
        evidence = log_joint.logsumexp(0) + cell
        log_q = normal_log_density(eta, mu, s)
        q = (log_q + cell).exp()
        bound = q @ words - kl(mu[None], s.log()[None], m, v)[0]
        errors.append(evidence - bound - q @ (log_q - log_joint + evidence))
    return largest(*errors)


@proof("eq-tm-kl", kind="random models", tolerance=1e-12)
def divergence_of_gaussians() -> float:
    """The library's divergence against PyTorch's, coordinate by coordinate."""
    errors = []
    for _ in range(MODELS):
        mu, log_var, m, v = torch.randn(4, 6), torch.randn(4, 6), torch.randn(6), torch.rand(6) + 0.1
        q = torch.distributions.Normal(mu, (log_var / 2).exp())
        p = torch.distributions.Normal(m.expand(4, 6), v.sqrt().expand(4, 6))
        errors.append(kl(mu, log_var, m, v) - torch.distributions.kl_divergence(q, p).sum(-1))
    return largest(*errors)


@proof("eq-tm-product", "eq-tm-compromise", kind="random models", tolerance=1e-12)
def product_and_mixture() -> float:
    """softmax(theta B) against the normalised product of experts; and both sums of divergences, for random p, against
    the divergence from the product or the mixture plus what does not depend on p."""
    errors = []
    for _ in range(MODELS):
        B, theta, p = torch.randn(4, 9), categorical(4), categorical(9)
        beta = B.softmax(-1)
        powers = (theta @ beta.log()).exp()
        Z, mixture = powers.sum(), theta @ beta
        product = powers / Z
        errors.append((theta @ B).softmax(-1) - product)
        left = (theta * divergence(p, beta)).sum()
        errors.append(left - (divergence(p, product) - Z.log()))
        left = (theta * divergence(beta, p)).sum()
        errors.append(left - (divergence(mixture, p) + (theta * divergence(beta, mixture)).sum()))
    return largest(*errors)


@proof("eq-tm-floor", kind="random models", tolerance=1e-12)
def batch_norm_keeps_the_divergence_up() -> float:
    """How far the mean divergence of a batch, its means and log variances normalised to mean zero and variance one,
    falls below the floor; the floor is met when all variances are one."""
    short = []
    for _ in range(MODELS):
        mean, log_var = torch.randn(32, 6) ** 3, torch.randn(32, 6)
        mean = (mean - mean.mean(0)) / mean.var(0, correction=0).sqrt()
        log_var = (log_var - log_var.mean(0)) / log_var.var(0, correction=0).sqrt()
        v = 0.3 + 2 * torch.rand(6)
        floor = 0.5 * (2 / v - 1 + v.log()).sum()
        short.append((floor - kl(mean, log_var, torch.zeros(6), v).mean()).clamp(min=0))
        short.append(kl(mean, torch.zeros(32, 6), torch.zeros(6), v).mean() - floor)
        short.append((6 * math.log(2) / 2 - floor).clamp(min=0))
    return largest(*short)


@proof("eq-tm-etm", kind="random models", tolerance=1e-12)
def near_words_have_near_probabilities() -> float:
    """Log odds of two words in a topic, from the softmax, against the inner product; excess over the bound."""
    errors = []
    for _ in range(MODELS):
        rho, a = torch.randn(7, 5), torch.randn(5)
        log_beta = (rho @ a).log_softmax(0)
        odds = log_beta[0] - log_beta[1]
        errors.append(odds - (rho[0] - rho[1]) @ a)
        errors.append((odds.abs() - (rho[0] - rho[1]).norm() * a.norm()).clamp(min=0))
    return largest(*errors)


def random_corpus(rng: np.random.Generator, words: int = 12, documents: int = 30) -> Corpus:
    lengths = rng.integers(1, 30, documents)
    starts = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    tokens = (words * rng.random(starts[-1]) ** 2).astype(np.int32)
    return Corpus([str(w) for w in range(words)], tokens, starts)


def shares(corpus: Corpus, words: list[int], window: int) -> tuple[np.ndarray, np.ndarray]:
    """P(i) and P(i, j) over all windows, by the definition."""
    held = []
    for a, b in itertools.pairwise(corpus.starts.tolist()):
        doc = corpus.tokens[a:b].tolist()
        held += [set(doc[i : i + window]) for i in range(max(len(doc) - window + 1, 1))]
    inside = np.array([[w in h for w in words] for h in held], float)
    return inside.mean(0), inside.T @ inside / len(held)


@proof("eq-tm-npmi", kind="random models", tolerance=1e-12)
def coherence_by_definition() -> float:
    """The mean over pairs, windows listed one by one, against the library's sparse count, for random corpora."""
    rng, errors = np.random.default_rng(0), []
    for window in (2, 5, 10):
        corpus, topic = random_corpus(rng), [0, 1, 2, 4, 7]
        one, both = shares(corpus, topic, window)
        total = 0.0
        for i, j in itertools.permutations(range(5), 2):
            joint = both[i, j] + 1e-12
            total += math.log(joint / (one[i] * one[j])) / -math.log(joint)
        found = Cooccurrence(corpus, topic, window=window, exact=True).npmi([topic])[0]
        errors.append(found - total / 20)
    return largest(*errors)


@proof("eq-tm-range", kind="enumerated", tolerance=1e-12)
def range_of_npmi() -> float:
    """All tables of two words over twelve windows: how far NPMI leaves [-1, 1], its distance from 0 where they are
    independent, and from 1 where they never part."""
    errors, n = [], 12
    for both, first, second in itertools.product(range(1, n), repeat=3):
        if first < both or second < both or first + second - both > n:
            continue
        pmi = math.log(both * n / (first * second))
        value = pmi / -math.log(both / n)
        errors.append(max(abs(value) - 1, 0))
        if both * n == first * second:
            errors.append(value)
        if both == first == second:
            errors.append(value - 1)
    return largest(*errors)


@proof("eq-tm-never", kind="random models", tolerance=1e-12)
def words_that_never_meet() -> float:
    """The library's NPMI of two words that share no window, against the formula in their frequencies and epsilon."""
    errors = []
    for apart in (1, 3, 40):
        tokens = np.array([0] * apart + [1] * (2 * apart) + [2] * 100, np.int32)
        starts = np.arange(len(tokens) + 1, dtype=np.int64)  # one word a document
        corpus, n = Corpus(list("abc"), tokens, starts), len(tokens)
        found = Cooccurrence(corpus).npmi([[0, 1]])[0]
        errors.append(found - (-1 + math.log(apart / n * 2 * apart / n) / math.log(1e-12)))
    return largest(*errors)


@proof("eq-tm-clusters", kind="random models", tolerance=1e-12)
def agreement_with_labels() -> float:
    """Purity and NMI from a table of counts, against the library; splitting a cluster never lowers purity."""
    rng, errors = np.random.default_rng(0), []
    for _ in range(MODELS):
        c, y = rng.integers(0, 5, 60), rng.integers(0, 4, 60)
        n = np.zeros((5, 4))
        np.add.at(n, (c, y), 1)
        p = n / 60

        def entropy(q: np.ndarray) -> float:
            q = q[q > 0]
            return float(-(q * np.log(q)).sum())

        information = entropy(p.sum(0)) + entropy(p.sum(1)) - entropy(p.ravel())
        errors.append(nmi(c, y) - 2 * information / (entropy(p.sum(0)) + entropy(p.sum(1))))
        errors.append(purity(c, y) - n.max(1).sum() / 60)
        finer = np.where((c == 0) & (rng.random(60) < 0.5), 5, c)
        errors.append(max(purity(c, y) - purity(finer, y), 0))
    return largest(*errors)


@proof("eq-tm-half", kind="quadrature", tolerance=1e-6)
def best_half_of_noise() -> float:
    """The mean of a Gaussian above its median, on a grid, against mu + sigma sqrt(2 / pi)."""
    errors = []
    for _ in range(5):
        mu, sigma = torch.randn(()), 0.2 + torch.rand(())
        x = mu + sigma * (torch.arange(200_000) + 0.5) * 5e-5
        p = (-0.5 * ((x - mu) / sigma) ** 2).softmax(0)
        errors.append(p @ x - (mu + sigma * math.sqrt(2 / math.pi)))
    return largest(*errors)


@proof("eq-tm-zscore", kind="random models", tolerance=1e-9)
def largest_z_score() -> float:
    """Excess of the largest z-score over sqrt(T - 1) on random columns, and its distance when one topic stands out."""
    errors = []
    for T in range(2, 30):
        x = torch.randn(T, 50) ** 3
        z = (x - x.mean(0)) / x.std(0, correction=0)
        errors.append((z.max() - math.sqrt(T - 1)).clamp(min=0))
        one = torch.eye(T)[0]
        errors.append(((one - one.mean()) / one.std(correction=0)).max() - math.sqrt(T - 1))
    return largest(*errors)

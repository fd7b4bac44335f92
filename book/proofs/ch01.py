"""Proofs of chapter 1: two conditions, Lloyd's descent, bits, the rate–distortion line, the window's bias."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from proofs import largest, proof
from vqbook.metrics import entropy_bits, perplexity
from vqbook.quantizers import kmeans, nearest_code
from vqbook.rates import priced_kmeans


def distortion(x: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """The sum of the chapter, term by term: x (N, D), codes (N,), codebook (K, D)."""
    return sum((x[n] - codebook[codes[n]]).square().sum() for n in range(len(x))) / len(x)


def frequencies(num_codes: int) -> Tensor:
    return torch.distributions.Dirichlet(torch.ones(num_codes)).sample()


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(-1)


@proof("eq-distortion", kind="random models", tolerance=1e-12)
def distortion_by_definition() -> float:
    """The sum, term by term, is the distortion that `kmeans` reports before and after its iterations (20 clouds)."""
    errors = []
    for seed in range(20):
        x = torch.randn(30, 4)
        for iterations in (0, 5):
            g = torch.Generator().manual_seed(seed)
            found = kmeans(x, 6, iterations=iterations, generator=g)
            errors.append(distortion(x, found.codes, found.centroids) - found.distortion[-1])
    return largest(*errors)


@proof("eq-nearest", kind="enumerated", tolerance=1e-12)
def nearest_is_best_encoder() -> float:
    """Among all 729 encoders of six points with three codes, the nearest-neighbour encoder has the least distortion."""
    errors = []
    for _ in range(5):
        x, codebook = torch.randn(6, 2), torch.randn(3, 2)
        encoders = torch.cartesian_prod(*[torch.arange(3)] * 6)  # (729, 6)
        all_of_them = (x - codebook[encoders]).square().sum(-1).mean(-1)  # (729,)
        argmin = torch.stack([(x_n - codebook).square().sum(-1).argmin() for x_n in x])
        errors += [distortion(x, argmin, codebook) - all_of_them.min()]
        errors += [(argmin - nearest_code(x, codebook)).double()]
    return largest(*errors)


@proof("eq-steiner", kind="random models", tolerance=1e-12)
def steiner() -> float:
    """Both sides for 100 random cells and pins; relative error."""
    errors = []
    for _ in range(100):
        n = int(torch.randint(1, 40, ()))
        x, e = 3 * torch.randn(n, 5), torch.randn(5)
        left = (x - e).square().sum()
        right = (x - x.mean(0)).square().sum() + n * (x.mean(0) - e).square().sum()
        errors.append((left - right) / left)
    return largest(*errors)


@proof("eq-centroid", kind="random models", tolerance=1e-10)
def centroid_is_best_decoder() -> float:
    """A Newton step from a random codebook, which minimises a quadratic exactly, ends at the means of the cells."""
    errors = []
    for _ in range(10):
        x, codes, e = torch.randn(40, 2), torch.arange(40) % 4, torch.randn(4, 2)

        def objective(flat: Tensor, x: Tensor = x, codes: Tensor = codes) -> Tensor:
            return distortion(x, codes, flat.reshape(4, 2))

        gradient = torch.func.grad(objective)(e.flatten())
        curvature = torch.func.hessian(objective)(e.flatten())
        best = (e.flatten() - torch.linalg.solve(curvature, gradient)).reshape(4, 2)
        errors.append((-torch.linalg.eigvalsh(curvature)).clamp_min(0))  # a minimum, not a saddle
        errors += [best[k] - x[codes == k].sum(0) / (codes == k).sum() for k in range(4)]
    return largest(*errors)


@proof("eq-descent", kind="random models", tolerance=1e-12)
def lloyd_descends() -> float:
    """The largest rise of the distortion in any half step of 20 runs of Lloyd's algorithm, ten iterations each."""
    rises = []
    for _ in range(20):
        x, e = torch.randn(60, 3), torch.randn(6, 3)
        codes = torch.randint(6, (60,))
        for _ in range(10):
            values = [distortion(x, codes, e)]
            codes = torch.stack([(x_n - e).square().sum(-1).argmin() for x_n in x])
            values.append(distortion(x, codes, e))
            cells = [x[codes == k] for k in range(6)]
            e = torch.stack([cell.mean(0) if len(cell) else e[k] for k, cell in enumerate(cells)])
            values.append(distortion(x, codes, e))
            rises += [(b - a).clamp_min(0) for a, b in itertools.pairwise(values)]
    return largest(*rises)


def _admissible(num_codes: int, longest: int = 8) -> Tensor:
    """Every list of lengths that obeys Kraft's inequality, (S, K)."""
    lengths = torch.cartesian_prod(*[torch.arange(1, longest + 1)] * num_codes)
    return lengths[(2.0**-lengths).sum(-1) <= 1]


@proof("eq-entropy", kind="enumerated", tolerance=1e-12)
def entropy_is_the_shortest_average() -> float:
    """The least average length over all admissible lengths up to 8 is the entropy for frequencies that are powers of ½
    and lies in [H, H + 1) otherwise; the sum agrees with `entropy_bits`."""
    lengths, errors = _admissible(4), []
    for p in (torch.tensor([0.5, 0.25, 0.125, 0.125]), torch.full((4,), 0.25)):
        entropy = -sum(p_k * math.log2(p_k) for p_k in p)
        errors.append((lengths * p).sum(-1).min() - entropy)
    for _ in range(20):
        p = frequencies(4)
        entropy = -sum(p_k * math.log2(p_k) for p_k in p)
        shortest = (lengths * p).sum(-1).min()
        errors.append(entropy_bits(p) - entropy)
        errors += [(entropy - shortest).clamp_min(0), (shortest - entropy - 1).clamp_min(0)]
    return largest(*errors)


@proof("eq-lengths", kind="enumerated", tolerance=1e-12)
def no_names_beat_the_entropy() -> float:
    """Both sides, and the inequality, for every admissible list of lengths up to 8 and 20 random frequencies."""
    lengths, errors = _admissible(4), []
    z = (2.0**-lengths).sum(-1)  # (S,)
    q = 2.0**-lengths / z[:, None]
    for _ in range(20):
        p = frequencies(4)
        entropy = -(p * p.log2()).sum()
        average = (p * lengths).sum(-1)
        errors.append(average - (entropy + kl(p, q) / math.log(2) - z.log2()))
        errors.append((entropy - average).clamp_min(0))
    return largest(*errors)


@proof("eq-gap", kind="random models", tolerance=1e-12)
def gap_to_uniform() -> float:
    """Both sides, and the inequality, for 100 random frequencies; zero for even ones."""
    errors = []
    for num_codes in range(2, 102):
        p, u = frequencies(num_codes), torch.full((num_codes,), 1 / num_codes)
        p = (p + 1e-9) / (p + 1e-9).sum()
        gap = math.log2(num_codes) + (p * p.log2()).sum()
        errors += [gap - kl(p, u) / math.log(2), (-gap).clamp_min(0)]
        errors.append(math.log2(num_codes) - entropy_bits(u))
    return largest(*errors)


@proof("eq-perplexity", kind="random models", tolerance=1e-10)
def perplexity_in_either_base() -> float:
    """Both forms and the library for 100 random frequencies, the bounds 1 and K, and m for m codes used evenly."""
    errors = []
    for num_codes in range(2, 102):
        p = frequencies(num_codes)
        in_bits = 2 ** -torch.special.xlogy(p, p).div(math.log(2)).sum()
        in_nats = torch.exp(-torch.special.xlogy(p, p).sum())
        errors += [in_bits - in_nats, perplexity(p) - in_nats]
        errors += [(1 - in_nats).clamp_min(0), (in_nats - num_codes).clamp_min(0)]
        m = num_codes // 2
        errors.append(perplexity(torch.cat([torch.ones(m), torch.zeros(num_codes - m)])) - m)
    return largest(*errors)


def _nodes(edges: np.ndarray, order: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on each interval between neighbouring edges, both (cells, order)."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return middle[:, None] + half[:, None] * nodes, half[:, None] * weights


@proof("eq-slope", kind="quadrature", tolerance=1e-12)
def six_decibels() -> float:
    """The integral of the squared error over the unit cube in 1 to 3 dimensions, cut into equal cubes and decoded by
    `nearest_code`, for 0 to 3 bits a coordinate; relative error, and that of the decibels for each bit."""
    errors = [torch.tensor(round(20 * math.log10(2), 2) - 6.02)]
    for dim in (1, 2, 3):
        per_coordinate = []
        for bits in range(4):
            edges = np.linspace(0, 1, 2**bits + 1)
            nodes, weights = (torch.from_numpy(a).flatten() for a in _nodes(edges, order=3))
            x = torch.cartesian_prod(*[nodes] * dim).reshape(-1, dim)
            weight = torch.cartesian_prod(*[weights] * dim).reshape(-1, dim).prod(-1)
            middles = torch.from_numpy((edges[1:] + edges[:-1]) / 2)
            codebook = torch.cartesian_prod(*[middles] * dim).reshape(-1, dim)  # (2^(R D), D)
            sq_error = (x - codebook[nearest_code(x, codebook)]).square().sum(-1)
            per_coordinate.append((weight * sq_error).sum() / dim)
            errors.append(per_coordinate[-1] * 12 * 2 ** (2 * bits) - 1)
        errors += [10 * (a / b).log10() - 20 * math.log10(2) for a, b in itertools.pairwise(per_coordinate)]
    return largest(*errors)


def _scalar_quantiser(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells and decoded values drawn at random; the first and the last cell share one value, for two codes."""
    walls = np.sort(np.random.normal(0, sigma, np.random.randint(3, 7)))
    values = np.random.normal(0, sigma, len(walls) + 1)
    values[-1] = values[0]
    return np.concatenate([[-11 * sigma], walls, [11 * sigma]]), values


def _integral(f: np.ndarray, weight: np.ndarray) -> float:
    return float((f * weight).sum())


def _entropy_of(f: np.ndarray, weight: np.ndarray) -> float:
    """-∫ f log2 f, with 0 log 0 = 0."""
    return -_integral(f * np.log2(np.where(f > 0, f, 1)), weight)


def _normal(x: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * (x / sigma) ** 2) / math.sqrt(2 * math.pi) / sigma


def _cell_of(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, x) - 1, 0, len(edges) - 2)


def _fine(edges: np.ndarray) -> np.ndarray:
    """The same edges with others between them, so that the nodes resolve a bell."""
    return np.unique(np.concatenate([edges, np.linspace(edges[0], edges[-1], 60)]))


def _chain(sigma: float, edges: np.ndarray, values: np.ndarray) -> tuple[list[float], float]:
    """Every line of the chain in bits, and the mean square error, for one scalar quantiser of a Gaussian."""
    x, weight = _nodes(_fine(edges))
    f, cell = _normal(x, sigma), _cell_of(x, edges)
    p_code = np.array([_integral(f * (cell == k), weight) for k in range(len(values))])
    names = np.unique(values)
    p_name = np.array([p_code[values == v].sum() for v in names])
    rate = -float((p_code * np.log2(p_code)).sum())
    h_x = _entropy_of(f, weight)
    inside = [np.isin(cell, np.flatnonzero(values == v)) for v in names]
    h_x_given = sum(p * _entropy_of(f * m / p, weight) for p, m in zip(p_name, inside, strict=True))
    # I(x; x_hat): the divergence of the joint density from the product of its marginals
    joint = [f * m for m in inside]
    information = sum(
        _integral(j * np.log2(np.where(j > 0, j, 1) / np.where(j > 0, f * p, 1)), weight)
        for j, p in zip(joint, p_name, strict=True)
    )
    # the density of the error u = x - x_hat, one shifted piece of the bell for each cell
    breaks = np.concatenate([[edges[k] - v, edges[k + 1] - v] for k, v in enumerate(values)])
    u, weight_u = _nodes(_fine(np.unique(breaks)))
    pieces = np.stack(
        [_normal(u + v, sigma) * ((u + v > edges[k]) & (u + v < edges[k + 1])) for k, v in enumerate(values)]
    )
    by_name = [pieces[values == v].sum(0) for v in names]
    h_error_given = sum(p * _entropy_of(g / p, weight_u) for p, g in zip(p_name, by_name, strict=True))
    density = pieces.sum(0)
    d = _integral(u**2 * density, weight_u)
    lines = [
        rate,
        information,
        h_x - h_x_given,
        h_x - h_error_given,
        h_x - _entropy_of(density, weight_u),
        0.5 * math.log2(2 * math.pi * math.e * sigma**2) - 0.5 * math.log2(2 * math.pi * math.e * d),
        0.5 * math.log2(sigma**2 / d),
    ]
    return lines, d


@proof("eq-chain", kind="quadrature", tolerance=1e-9)
def chain() -> float:
    """Every line of the chain for 20 random scalar quantisers of a Gaussian, two of whose codes decode alike; the error
    of an equality, or the violation of an inequality, in bits."""
    errors = []
    for _ in range(20):
        sigma = np.random.uniform(0.5, 2)
        a, b, c, d, e, f, g = _chain(sigma, *_scalar_quantiser(sigma))[0]
        errors += [max(b - a, 0), b - c, c - d, max(e - d, 0), max(f - e, 0), f - g]
    return largest(*errors)


def _equal_cells(sigma: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Equal cells, each decoded to its centre of mass: with an entropy code the best scalar quantiser at high rate."""
    edges = np.arange(-11 * sigma, 11 * sigma + step, step)
    x, weight = _nodes(edges)
    f = _normal(x, sigma) * weight
    return edges, (x * f).sum(1) / f.sum(1)


@proof("eq-gaussian", kind="quadrature", tolerance=1e-12)
def shannons_line() -> float:
    """The violation, relative to the variance, for 100 random scalar quantisers of a Gaussian and 20 with equal cells,
    which come within 1.6 dB of the line; at rate zero the code at the mean attains it."""
    errors = []
    for _ in range(100):
        sigma = np.random.uniform(0.5, 2)
        lines, d = _chain(sigma, *_scalar_quantiser(sigma))
        errors.append(max(2 ** (-2 * lines[0]) - d / sigma**2, 0))
    for step in np.geomspace(0.1, 8, 20):
        lines, d = _chain(1.5, *_equal_cells(1.5, 1.5 * step))
        line = 2 ** (-2 * lines[0])
        errors += [max(line - d / 1.5**2, 0), max(d / 1.5**2 - 10**0.16 * line, 0)]
    lines, d = _chain(1.5, np.array([-16.5, 16.5]), np.array([0.0]))
    errors.append(d / 1.5**2 - 2 ** (-2 * lines[0]))
    return largest(*errors)


@proof("eq-bias", kind="enumerated", tolerance=1e-12)
def entropy_of_a_window() -> float:
    """All three expressions, summed over every sequence of up to six tokens from three codes, for ten distributions."""
    errors = []
    for tokens, p in itertools.product((1, 3, 6), [frequencies(3) for _ in range(10)]):
        sequences = torch.cartesian_prod(*[torch.arange(3)] * tokens).reshape(-1, tokens)
        chance = p[sequences].prod(-1)
        p_hat = torch.nn.functional.one_hot(sequences, 3).double().mean(1)
        left = (chance * -torch.special.xlogy(p_hat, p_hat).sum(-1)).sum()
        cross = (chance * -(p_hat * p.log()).sum(-1)).sum()
        mean_kl = (chance * (torch.special.xlogy(p_hat, p_hat) - p_hat * p.log()).sum(-1)).sum()
        errors += [left - (cross - mean_kl), left - (-(p * p.log()).sum() - mean_kl)]
    return largest(*errors)


@proof("eq-miller", kind="enumerated", tolerance=0.02)
def miller_madow() -> float:
    """The exact mean entropy, summed over all counts, misses the formula by a remainder of order 1/N²: doubling N from
    2,000 divides it by four (relative error of the four); the two forms of the formula agree."""
    errors = []
    for _ in range(5):
        p = 0.05 + 0.75 * frequencies(5)
        remainders = []
        for tokens in (2_000, 4_000):
            j = torch.arange(1.0, tokens + 1)[:, None]
            chance = torch.distributions.Binomial(tokens, p).log_prob(j).exp()  # (N, K)
            exact = -(chance * (j / tokens) * (j / tokens).log()).sum()
            formula = -(p * p.log()).sum() - (5 - 1) / (2 * tokens)
            errors.append(formula - (-(p * p.log()).sum() - ((1 - p) / (2 * tokens)).sum()))
            remainders.append(exact - formula)
        errors.append(remainders[0] / remainders[1] / 4 - 1)
    return largest(*errors)


@proof("eq-wells", kind="enumerated", tolerance=1e-6)
def water_filling() -> float:
    """The bill of the stated rates against the least on a grid of 20,001 rates for each axis, for 50 random sets of
    variances and prices; relative error, and that of the stated distortions."""
    errors, rates = [], torch.linspace(0, 8, 20_001)
    for _ in range(50):
        variance, price = torch.randn(6).mul(2).exp(), float(torch.rand(())) + 0.01
        theta = price / (2 * math.log(2))
        bits = 0.5 * (variance / theta).clamp_min(1).log2()
        grid = variance[:, None] * 2 ** (-2 * rates) + price * rates  # (axes, rates): the bill, axis by axis
        stated = variance * 2 ** (-2 * bits) + price * bits
        errors.append((stated.sum() - grid.min(-1).values.sum()) / stated.sum())
        errors.append(variance * 2 ** (-2 * bits) - torch.minimum(torch.tensor(theta), variance))
    return largest(*errors)


@proof("eq-priced", kind="random models", tolerance=1e-10)
def priced_lloyd_descends() -> float:
    """The largest rise of J in any of the three steps of 20 runs; how far other lengths or moved codes get below J; and
    the codes that the library's `priced_kmeans` takes against the argmin."""
    errors = []

    def bill(x: Tensor, codes: Tensor, e: Tensor, lengths: Tensor, price: float) -> Tensor:
        return sum(
            (x[n] - e[codes[n]]).square().sum() + price * lengths[codes[n]] for n in range(len(x))
        ) / len(x)

    for _ in range(20):
        x, e, price = torch.randn(40, 2), torch.randn(5, 2), float(torch.rand(()))
        codes, lengths = torch.arange(40) % 5, torch.full((5,), math.log2(5))
        values = [bill(x, codes, e, lengths, price)]
        for _ in range(6):
            codes = ((x[:, None] - e).square().sum(-1) + price * lengths).argmin(1)
            values.append(bill(x, codes, e, lengths, price))
            live = codes.unique()
            codes = torch.searchsorted(live, codes)
            e = torch.stack([x[codes == k].mean(0) for k in range(len(live))])
            values.append(bill(x, codes, e, lengths[live], price))
            p = torch.bincount(codes) / len(x)
            lengths = -p.log2()
            values.append(bill(x, codes, e, lengths, price))
            other = frequencies(len(p))  # the lengths of any other distribution are no better
            errors.append((values[-1] - bill(x, codes, e, -other.log2(), price)).clamp_min(0))
            moved = e + 0.1 * torch.randn_like(e)
            errors.append((values[-1] - bill(x, codes, moved, lengths, price)).clamp_min(0))
        errors += [(b - a).clamp_min(0) for a, b in itertools.pairwise(values)]
        library = priced_kmeans(x, x[:5], price, iterations=6)
        cost = (x[:, None] - library.codebook).square().sum(-1) + price * library.bits
        errors.append(cost.gather(1, library.encode(x)[:, None])[:, 0] - cost.min(1).values)
    return largest(*errors)

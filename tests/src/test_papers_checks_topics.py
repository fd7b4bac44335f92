"""The checks that the sources of Part IV allow, by number, on the library's own functions.

Check 10 (a PixelCNN's logits never depend on later tokens) stands with other properties of priors in test_priors.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from vqbook.topics import (
    ConceptualWords,
    Corpus,
    TopicVQVAE,
    Vectors,
    diversity,
    nmi,
    npmi,
    purity,
    topic_scores,
)
from vqbook.topics.bags import Bags
from vqbook.topics.expanded import ExpandedQuantizer
from vqbook.topics.experts import MixtureNorm, scaled
from vqbook.topics.logistic_normal import kl
from vqbook.topics.metrics import Cooccurrence
from vqbook.topics.tvqnet import TVQNet, over_topics


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


def documents(*texts: str) -> Corpus:
    """Each letter is a word."""
    words = sorted(set("".join(texts)))
    tokens = np.array([words.index(letter) for text in texts for letter in text], np.int32)
    return Corpus(words, tokens, np.cumsum([0, *map(len, texts)]))


def random_corpus(seed: int = 0, n: int = 40, words: int = 12, dim: int = 6) -> Corpus:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 9, n)
    tokens = generator.integers(words, size=lengths.sum()).astype(np.int32)
    table = generator.normal(size=(words, dim)).astype(np.float32)
    corpus = Corpus([f"w{v:02}" for v in range(words)], tokens, np.cumsum([0, *lengths]))
    return corpus.with_vectors(Vectors("random", table, tokens))


def small(near: int = 2, **settings: object) -> ConceptualWords:
    return ConceptualWords(num_codes=8, dim=4, hidden=(8,), near=near, steps=20, batch=16, **settings)


def fitted(num_topics: int = 3, **settings: object) -> tuple[TopicVQVAE, Corpus]:
    corpus = random_corpus()
    return TopicVQVAE(num_topics, concepts=small(), epochs=8, batch_size=8, **settings).fit(corpus), corpus


@pytest.mark.parametrize("near", [1, 3])
def test_01_bags_hold_k_codes_for_each_token(near: int) -> None:
    corpus = random_corpus()
    concepts = small(near).fit(corpus.vectors.table)
    codes = concepts.nearest(corpus.vectors.table)
    assert codes.shape == (12, near)
    assert all(len(set(row)) == near for row in codes.tolist())
    rows = corpus.vectors.rows.copy()
    rows[::5] = -1  # tokens without a vector count for nothing
    partial = corpus.with_vectors(corpus.vectors._replace(rows=rows))
    valid = np.add.reduceat(rows >= 0, corpus.starts[:-1])
    np.testing.assert_array_equal(concepts.bag(partial).sum(1).A1, near * valid)
    z = concepts.encode(corpus.vectors.table)
    order = (z.unsqueeze(1) - concepts.codebook).square().sum(-1).argsort(-1)[:, :near]
    assert torch.equal(order, torch.from_numpy(codes).long())


def test_01_one_neighbour_is_ordinary_vector_quantisation() -> None:
    layer = ExpandedQuantizer(8, 4, 1, generator=rng(0))
    out = layer(normal(20, 4))
    z = torch.nn.functional.normalize(normal(20, 4), dim=-1)
    nearest = (z.unsqueeze(1) - layer.codebook).square().sum(-1).argmin(-1)
    torch.testing.assert_close(out.z_q, layer.codebook[nearest])
    assert out.usage.sum() == 20


def test_02_closed_form_divergence() -> None:
    mean, log_var, m, v = normal(3, 4), normal(3, 4, seed=1), normal(4, seed=2), normal(4, seed=3).exp()
    ours = kl(mean, log_var, m, v)
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    p = torch.distributions.Normal(m, v.sqrt())
    torch.testing.assert_close(ours, torch.distributions.kl_divergence(q, p).sum(-1))
    torch.manual_seed(0)
    eta = q.sample((200_000,))
    estimate = (q.log_prob(eta) - p.log_prob(eta)).sum(-1)
    error = estimate.std(0) / math.sqrt(len(estimate))
    assert ((estimate.mean(0) - ours).abs() < 5 * error).all()


@pytest.mark.parametrize("alpha", ["vectors", "linear", "mlp"])
def test_03_the_bound_lies_below_the_evidence(alpha: str) -> None:
    model, corpus = fitted(2, alpha=alpha, loss="joint")
    bound = model.elbo(corpus, samples=500, generator=rng(0)).total
    sampled = model.log_evidence(corpus, samples=1_500, generator=rng(1))
    exact = evidence_on_a_grid(model, corpus)
    assert (bound < exact + 0.1).all()
    np.testing.assert_allclose(sampled, exact, atol=0.3)  # of a document; and of their mean
    assert (sampled - exact).mean() == pytest.approx(0, abs=0.03)
    assert (exact - bound).mean() > 0.01  # it is not tight: q sees the codes alone


def evidence_on_a_grid(model: TopicVQVAE, corpus: Corpus) -> np.ndarray:
    """With two topics all depends on one number, the difference of η's two entries: an integral in one dimension."""
    net = model.net
    mean = float((net.prior_mean[0] - net.prior_mean[1]).detach())
    deviation = float(net.prior_log_var.exp().sum().sqrt().detach())
    x = torch.linspace(mean - 8 * deviation, mean + 8 * deviation, 4_001)
    log_p = torch.distributions.Normal(mean, deviation).log_prob(x) + math.log(float(x[1] - x[0]))
    theta = torch.stack([x, torch.zeros_like(x)], -1).softmax(-1)
    with torch.no_grad():
        log_c = net.code_logits(theta).log_softmax(-1).numpy()  # (grid, M)
        log_w = net.word_logits(theta).log_softmax(-1).numpy()
    likelihood = model.bag(corpus) @ log_c.T + corpus.counts @ log_w.T  # (N, grid)
    return logsumexp(likelihood + log_p.numpy(), axis=1)


def test_04_a_pure_document_renders_its_topic() -> None:
    model, _ = fitted()
    net = model.net
    for t in range(3):
        theta = torch.eye(3)[t : t + 1]
        torch.testing.assert_close((theta @ net.words())[0], net.words()[t])
        torch.testing.assert_close((theta @ net.beta)[0], net.beta[t])
        rendered = net.word_logits(theta).softmax(-1)[0].detach().numpy()
        np.testing.assert_allclose(rendered, model.get_beta()[t], rtol=1e-4)
    drawn = model.generate(1, 20_000, generator=rng(0))
    share = np.array([drawn.count(word) for word in model.words]) / 20_000
    np.testing.assert_allclose(share, model.get_beta()[1], atol=0.02)


@pytest.mark.parametrize("alpha", ["vectors", "linear", "mlp"])
def test_05_topic_vectors_and_permutations(alpha: str) -> None:
    torch.manual_seed(0)
    rho, words = normal(10, 4), normal(15, 4, seed=1)
    net = TVQNet(rho, words, 3, alpha=alpha)
    torch.testing.assert_close(net.topic_vectors().norm(dim=-1), torch.ones(3))
    before, order = net.words(), torch.randperm(10, generator=rng(2))
    with torch.no_grad():
        net.rho, net.beta.data = net.rho[order], net.beta[:, order]
        torch.testing.assert_close(net.words(), before, rtol=1e-4, atol=1e-5)
        turn = torch.tensor([2, 0, 1])
        net.beta.data = net.beta[turn]
        torch.testing.assert_close(net.words(), before[turn], rtol=1e-4, atol=1e-5)


def test_06_z_scores_over_topics() -> None:
    z = over_topics(100 * normal(7, 50))
    torch.testing.assert_close(z.mean(0), torch.zeros(50), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(50))
    exclusive = over_topics(torch.eye(7)[:, :1] * 100)
    assert exclusive.max() == pytest.approx(math.sqrt(6))
    assert z.max() <= math.sqrt(6)


def test_06_normalised_mixtures_are_batch_normalisation() -> None:
    theta, experts = normal(32, 5).softmax(-1), normal(5, 40, seed=1)
    centred, covariance = MixtureNorm(5)(theta)
    theirs = torch.nn.BatchNorm1d(40, affine=False)(theta @ experts)
    torch.testing.assert_close(centred @ scaled(experts, covariance), theirs, atol=1e-5, rtol=1e-4)


def test_07_npmi_of_pairs() -> None:
    together = documents(*["ab", "cd"] * 20)
    assert Cooccurrence(together).npmi([[0, 1]])[0] == pytest.approx(1)
    assert Cooccurrence(together).npmi([[0, 2]])[0] == pytest.approx(-1, abs=0.1)
    free = documents(*["abz", "azz", "bzz", "zzz"] * 20)
    assert Cooccurrence(free).npmi([[0, 1]])[0] == pytest.approx(0, abs=1e-9)


def test_07_npmi_as_gensim_has_it() -> None:
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel

    generator = np.random.default_rng(0)
    texts = [
        "".join(generator.choice(list("abcdefghijklmnop"), generator.integers(1, 40))) for _ in range(60)
    ]
    corpus = documents(*texts)
    topics = np.array([generator.permutation(16)[:10] for _ in range(4)])
    spelled = [[corpus.words[v] for v in row] for row in topics.tolist()]
    theirs = CoherenceModel(
        topics=spelled,
        texts=[list(text) for text in texts],
        dictionary=Dictionary([list(text) for text in texts]),
        coherence="c_npmi",
        topn=10,
        window_size=10,
        processes=1,
    ).get_coherence_per_topic()
    np.testing.assert_allclose(npmi(topics, corpus, window=10), theirs, atol=1e-6)


def test_08_diversity() -> None:
    assert diversity(np.arange(100).reshape(4, 25)) == 1
    assert diversity(np.tile(np.arange(25), (4, 1))) == pytest.approx(1 / 4)


def test_08_best_half_is_all_when_topics_tie() -> None:
    corpus = documents(*["abcdefghijklmnopqrstuvwxy"] * 5)
    topics = np.stack([np.arange(25), np.arange(25)[::-1]] * 2)  # the same words: all tie
    found = topic_scores(topics, Cooccurrence(corpus, window=None))
    assert found.best_npmi == pytest.approx(found.npmi)
    assert found.each_npmi.std() == pytest.approx(0)


def test_09_clusters_against_labels() -> None:
    labels = np.random.default_rng(0).integers(4, size=50)
    assert purity(np.arange(50), labels) == 1
    clusters = np.random.default_rng(1).integers(5, size=50)
    renamed = np.array([2, 0, 3, 1])[labels]
    assert nmi(clusters, labels) == pytest.approx(nmi(clusters, renamed))
    assert nmi(labels, renamed) == pytest.approx(1)


def test_11_the_gradient_passes_straight_through() -> None:
    layer = ExpandedQuantizer(8, 4, 3, generator=rng(0))
    z = torch.nn.functional.normalize(normal(20, 4), dim=-1).requires_grad_()
    unit = layer.search_space(z)
    out = layer.read(unit, layer.assign(z)[1])
    out.z_q.retain_grad()
    unit.retain_grad()
    (out.z_q * normal(20, 4, seed=3)).sum().backward()
    torch.testing.assert_close(unit.grad, out.z_q.grad)
    assert layer.codebook.grad is None or not layer.codebook.grad.any()


def test_11_a_bag_of_codes_reaches_the_encoder_of_topics() -> None:
    corpus = random_corpus()
    bags = Bags(small().fit(corpus.vectors.table).bag(corpus)), Bags(corpus.counts)
    net = TVQNet(normal(8, 4), normal(12, 4, seed=1), 3, loss="codes", alpha="linear")
    rows = torch.arange(len(corpus))
    terms = net.loss(*(bag.batch(rows) for bag in bags))
    terms["words"].backward()
    assert net.beta.grad is None  # the word head reads topics and has no say in them
    assert net.encoder.words.grad is None
    assert net.read.weight.grad.any()


# The authors' README: T, then (NPMI, diversity, quality) of the paper-time version, alpha_hidden 1 and 2.
README_20NG = {
    10: ((0.1729, 0.9920, 0.1715), (0.1803, 0.9920, 0.1788), (0.1799, 0.9920, 0.1784)),
    20: ((0.1710, 0.9360, 0.1601), (0.1973, 0.8960, 0.1768), (0.1976, 0.9160, 0.1810)),
    30: ((0.1752, 0.8907, 0.1561), (0.2004, 0.8987, 0.1801), (0.2126, 0.8853, 0.1882)),
    40: ((0.1933, 0.7980, 0.1543), (0.1984, 0.8220, 0.1631), (0.2029, 0.7960, 0.1615)),
    50: ((0.1855, 0.7600, 0.1410), (0.1625, 0.7328, 0.1191), (0.1530, 0.7184, 0.1099)),
}
README_MEANS = ((0.1796, 0.8753, 0.1566), (0.1878, 0.8683, 0.1636), (0.1892, 0.8615, 0.1638))


def test_12_the_readme_is_quality_and_best_half() -> None:
    for count, versions in README_20NG.items():
        for coherence, share, quality in versions:
            assert coherence * share == pytest.approx(quality, abs=1.01e-4)
            distinct = share * 25 * count / 2  # words among the top 25 of the best half
            assert distinct == pytest.approx(round(distinct), abs=25 * count / 2 * 5.1e-5)
    for version, means in enumerate(README_MEANS):
        for i, mean in enumerate(means):
            ours = np.mean([rows[version][i] for rows in README_20NG.values()])
            assert ours == pytest.approx(mean, abs=1e-4)


def test_12_our_quality_is_their_product() -> None:
    generator = np.random.default_rng(0)
    corpus = documents(
        *["".join(generator.choice(list("abcdefghijklmnopqrstuvwxyzABCD"), 30)) for _ in range(20)]
    )
    topics = np.array([generator.permutation(30)[:25] for _ in range(5)])
    found = topic_scores(topics, Cooccurrence(corpus))
    best = np.argsort(-found.each_npmi, kind="stable")[:2]  # floor(5 / 2)
    assert found.best_npmi == pytest.approx(found.each_npmi[best].mean())
    assert found.best_diversity == pytest.approx(diversity(topics[best]))
    assert found.best_quality == pytest.approx(found.best_npmi * found.best_diversity)
    assert found.quality == pytest.approx(found.npmi * found.diversity)

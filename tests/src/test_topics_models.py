"""Topic models: the parts of logistic-normal inference, what each model finds in bars, files, odd documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from sklearn.base import clone

from vqbook.data import DataError
from vqbook.data.bars import bar_topics
from vqbook.topics import Corpus, from_counts, from_texts, load_corpus
from vqbook.topics.bags import Bags
from vqbook.topics.bertopic import LEAST, BERTopic, windows_of
from vqbook.topics.embeddings import Vectors, word2vec
from vqbook.topics.etm import ETM
from vqbook.topics.lda import LDA, posterior
from vqbook.topics.logistic_normal import (
    Encoder,
    fit_minibatches,
    kl,
    laplace_prior,
    sample,
    validation_loss,
)
from vqbook.topics.model import TopicModel, load_model, standardised
from vqbook.topics.pooling import document_vectors, word_vectors
from vqbook.topics.prodlda import ProdLDA, ProdLDANet

BARS = bar_topics().numpy()
SMALL: dict[str, Any] = {
    "LDA": lambda **more: LDA(num_topics=3, passes=2, **more),
    "ProdLDA": lambda **more: ProdLDA(num_topics=3, epochs=3, **more),
    "ETM": lambda **more: ETM(num_topics=3, epochs=3, hidden=(20, 20), **more),
    "BERTopic": lambda **more: BERTopic(num_topics=3, min_cluster_size=3, **more),
}
NEURAL = ("ProdLDA", "ETM")


@pytest.fixture(scope="module")
def bars() -> Corpus:
    return load_corpus("bars")


@pytest.fixture(scope="module")
def three() -> Corpus:
    """Documents of twelve words each from one of three disjoint sets of words, with vectors that tell them apart."""
    rng = np.random.default_rng(0)
    group = np.arange(90) % 3
    words = np.stack([rng.choice(8, 12) + 8 * g for g in group])
    counts = csr_matrix(np.stack([np.bincount(row, minlength=24) for row in words]))
    corpus = from_counts(counts, [f"w{v}" for v in range(24)], labels=group)
    table = np.repeat(np.eye(3), 8, 0) + 0.1 * rng.normal(size=(24, 3))
    return corpus.with_vectors(Vectors("made", table.astype(np.float32), corpus.tokens))


@pytest.fixture(scope="module", params=SMALL)
def fitted(request: pytest.FixtureRequest, three: Corpus) -> TopicModel:
    return SMALL[request.param]().fit(three)


def matched(beta: np.ndarray) -> np.ndarray:
    """Cosine of each bar with the topic that is its own in the best matching."""
    unit = beta / np.linalg.norm(beta, axis=1, keepdims=True)
    cosine = unit @ (BARS / np.linalg.norm(BARS, axis=1, keepdims=True)).T
    return cosine[linear_sum_assignment(-cosine)]


def gaussians(seed: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    mean, log_var, prior_mean = (torch.randn(s, generator=g) for s in ((4, 6), (4, 6), (6,)))
    return mean, log_var, prior_mean, torch.rand(6, generator=g) + 0.2


@pytest.mark.parametrize("seed", range(3))
def test_kl_agrees_with_torch_distributions(seed: int) -> None:
    mean, log_var, m, v = gaussians(seed)
    q = torch.distributions.Normal(mean, (log_var / 2).exp())
    p = torch.distributions.Normal(m, v.sqrt())
    torch.testing.assert_close(kl(mean, log_var, m, v), torch.distributions.kl_divergence(q, p).sum(-1))


def test_kl_agrees_with_monte_carlo() -> None:
    mean, log_var, m, v = gaussians(0)
    g = torch.Generator().manual_seed(1)
    q, p = torch.distributions.Normal(mean, (log_var / 2).exp()), torch.distributions.Normal(m, v.sqrt())
    draws = torch.stack([sample(mean, log_var, g) for _ in range(20_000)])
    ratio = (q.log_prob(draws) - p.log_prob(draws)).sum(-1)  # (draws, B)
    error = 5 * ratio.std(0) / len(draws) ** 0.5
    assert ((ratio.mean(0) - kl(mean, log_var, m, v)).abs() < error).all()
    assert kl(m.expand(1, 6), v.log().expand(1, 6), m, v).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("topics", [2, 5, 50])
def test_laplace_prior_of_a_flat_dirichlet(topics: int) -> None:
    prior = laplace_prior(1.0, topics)
    torch.testing.assert_close(prior.mean, torch.zeros(topics))
    torch.testing.assert_close(prior.variance, torch.full((topics,), 1 - 1 / topics))


def test_laplace_prior_is_the_curvature_of_the_dirichlet_at_its_mode() -> None:
    """In the softmax basis the density is prod theta^alpha; its Hessian at eta = ln alpha, inverted on the plane
    of vectors that sum to 0, has the variances of the formula."""
    a = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    prior = laplace_prior(a, 4)

    def log_density(eta: torch.Tensor) -> torch.Tensor:
        return (a * eta.log_softmax(-1)).sum()

    mode = prior.mean.double()
    torch.testing.assert_close(mode.softmax(-1), a / a.sum(), rtol=1e-6, atol=1e-6)
    hessian = -torch.autograd.functional.hessian(log_density, mode)
    plane = torch.eye(4, dtype=torch.float64) - 0.25
    covariance = plane @ torch.linalg.pinv(hessian) @ plane
    torch.testing.assert_close(covariance.diagonal().float(), prior.variance, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("alpha", "topics"), [(0.0, 3), (-1.0, 3), (torch.ones(2), 3), (1.0, 1)])
def test_laplace_prior_refuses(alpha: Any, topics: int) -> None:
    with pytest.raises(ValueError, match="got"):
        laplace_prior(alpha, topics)


def random_counts(seed: int, rows: int = 7, columns: int = 11) -> Any:
    return csr_matrix(np.random.default_rng(seed).poisson(0.4, (rows, columns)))


def test_a_batch_is_the_rows_of_the_matrix_in_the_order_asked_for() -> None:
    counts = random_counts(0).toarray()
    counts[2] = 0
    counts = csr_matrix(counts)
    rows = torch.tensor([5, 2, 0, 5])
    batch = Bags(counts).batch(rows)
    expected = torch.from_numpy(counts.toarray()[rows.numpy()]).float()
    assert torch.equal(batch.dense(), expected) and torch.equal(batch.totals(), expected.sum(1))
    assert batch.size == 4
    assert torch.equal(Bags(counts).filled(), torch.from_numpy(np.flatnonzero(counts.sum(1))))


def test_cross_entropy_of_a_batch_and_its_gradient() -> None:
    batch = Bags(random_counts(1)).batch(torch.arange(7))
    a, b = (torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    slow = -(batch.dense() * a.log_softmax(-1)).sum(-1).mean()
    fast = batch.cross_entropy(b)
    torch.testing.assert_close(fast, slow)
    slow.backward(), fast.backward()
    torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("inputs", ["counts", "shares", "logs"])
def test_the_encoder_is_a_dense_network_computed_sparsely(inputs: Any) -> None:
    torch.manual_seed(0)
    encoder = Encoder(11, 3, hidden=(5, 4), inputs=inputs).eval()
    batch = Bags(random_counts(2)).batch(torch.arange(7))
    x = batch.dense()
    x = {"counts": x, "shares": x / x.sum(1, keepdim=True).clamp_min(1), "logs": x.log1p()}[inputs]
    h = torch.nn.functional.softplus(x @ encoder.words + encoder.bias)
    h = torch.nn.functional.softplus(encoder.layers[0](h))
    mean, log_var = encoder(batch)
    torch.testing.assert_close(mean, encoder.mean(h))
    torch.testing.assert_close(log_var, encoder.log_var(h))


def test_training_is_decided_by_the_seed_and_leaves_the_callers_alone(three: Corpus) -> None:
    before = torch.get_rng_state()
    a, b, c = (SMALL["ProdLDA"](seed=seed).fit(three) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(a.get_theta(), b.get_theta()) and not np.array_equal(a.get_theta(), c.get_theta())
    assert a.history.terms == b.history.terms


def test_early_stopping_returns_the_best_epoch(three: Corpus) -> None:
    torch.manual_seed(0)
    train, held = Bags(three.counts[:60]), Bags(three.counts[60:])
    net = ProdLDANet(24, 3, (10,), 0.0, 1.0)
    curves = fit_minibatches(net, net.loss, [train], [held], epochs=400, batch_size=20, lr=2e-2, patience=5)
    validation = curves["validation"]
    assert 20 < len(validation) < 400
    counted = validation[16:]  # 3 updates an epoch: those after 50 updates
    assert validation_loss(net, net.loss, [held], 20, 0) == pytest.approx(min(counted), rel=1e-6)
    assert len(counted) - 1 - int(np.argmin(counted)) == 5


def test_an_infinite_validation_loss_is_no_better_and_a_lost_training_ends(three: Corpus) -> None:
    bags = Bags(three.counts)
    net = ProdLDANet(24, 3, (10,), 0.0, 1.0)

    def lost(batch: Any, when: bool) -> dict[str, torch.Tensor]:
        terms = net.loss(batch)
        return {name: value / 0 if net.training is when else value for name, value in terms.items()}

    settings: dict[str, Any] = dict(train=[bags], validation=[bags], epochs=30, batch_size=20, patience=3)
    curves = fit_minibatches(net, partial(lost, when=False), **settings)
    assert np.isinf(curves["validation"]).all() and len(curves["validation"]) < 30
    with pytest.raises(FloatingPointError, match="the loss is nan after epoch 1"):
        fit_minibatches(net, partial(lost, when=True), **settings)


def test_no_batch_of_one_and_no_empty_document(three: Corpus) -> None:
    seen: list[tuple[int, float]] = []
    net = ProdLDANet(24, 3, (10,), 0.0, 1.0)

    def loss(batch: Any) -> dict[str, torch.Tensor]:
        seen.append((batch.size, batch.totals().min().item()))
        return net.loss(batch)

    counts = three.counts[:21].copy()
    counts.data[counts.indptr[3] : counts.indptr[4]] = 0
    counts.eliminate_zeros()
    fit_minibatches(net, loss, [Bags(counts)], epochs=2, batch_size=19)
    assert sum(size for size, _ in seen) == 40
    assert min(size for size, _ in seen) > 1 and min(least for _, least in seen) > 0


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"batch_size": 1}, {"lr": 0.0}, {"patience": 0}])
def test_settings_out_of_range(three: Corpus, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        ProdLDA(num_topics=3, **bad).fit(three)


def test_validation_without_known_words_is_refused(three: Corpus) -> None:
    strangers = from_counts(csr_matrix(np.ones((4, 2), int)), ["x", "y"])
    with pytest.raises(ValueError, match="validation"):
        SMALL["ProdLDA"]().fit(three, strangers)


@pytest.mark.parametrize(
    ("model", "cosine", "least"),
    [
        (ProdLDA(num_topics=10, epochs=150, lr=1e-2), 0.7, 10),
        (ETM(num_topics=10, epochs=60, hidden=(100,), dropout=0.0), 0.9, 10),
        (LDA(num_topics=10, alpha=1.0, chunk=200), 0.9, 8),  # one start of online LDA may blend two bars
    ],
    ids=["ProdLDA", "ETM", "LDA"],
)
def test_recovers_the_bars(model: TopicModel, cosine: float, least: int, bars: Corpus) -> None:
    model.fit(bars)
    found = {frozenset(row) for row in model.top_ids(5).tolist()}
    true = {frozenset(np.flatnonzero(row).tolist()) for row in BARS}
    assert (matched(model.get_beta()) > cosine).sum() >= least
    assert len(found & true) >= least


def test_bertopic_recovers_groups(three: Corpus) -> None:
    model = SMALL["BERTopic"]().fit(three)
    assert {frozenset(np.array(row) // 8) for row in model.top_ids(8).tolist()} == {
        frozenset({g}) for g in range(3)
    }
    assert (model.get_theta().argmax(1)[model.clusters >= 0] == model.clusters[model.clusters >= 0]).all()


def test_the_common_face(fitted: TopicModel, three: Corpus) -> None:
    theta, beta = fitted.get_theta(), fitted.get_beta()
    assert theta.shape == (90, 3) and beta.shape == (3, 24)
    assert theta.dtype == beta.dtype == np.float32
    np.testing.assert_allclose(theta.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(beta.sum(1), 1, atol=1e-5)
    assert (theta >= 0).all() and (beta >= 0).all()
    assert np.array_equal(fitted.transform(three), theta)
    words = fitted.top_words(4)
    assert [len(row) for row in words] == [4] * 3 and words[0][0] == f"w{fitted.top_ids(4)[0, 0]}"
    ranked = np.take_along_axis(fitted.scores(), fitted.top_ids(24), 1)
    assert (np.diff(ranked, axis=1) <= 0).all()
    assert type(fitted).__name__ in repr(fitted) and clone(fitted).get_params() == fitted.get_params()


def test_a_document_alone_has_the_theta_it_has_in_company(fitted: TopicModel, three: Corpus) -> None:
    alone = np.concatenate([fitted.transform(three.take([d])) for d in (3, 50)])
    np.testing.assert_allclose(alone, fitted.get_theta()[[3, 50]], atol=1e-4)


def test_files_give_the_same_model_bit_for_bit(fitted: TopicModel, three: Corpus, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    fitted.save(tmp_path)
    assert sorted(f.suffix for f in tmp_path.iterdir()) == [".json", ".safetensors"]
    back = load_model(tmp_path)
    assert type(back) is type(fitted) and back.get_params() == fitted.get_params()
    assert back.words == fitted.words and back.history.as_dict() == fitted.history.as_dict()
    assert np.array_equal(back.get_theta(), fitted.get_theta())
    assert np.array_equal(back.transform(three), fitted.get_theta())
    assert np.array_equal(back.get_beta(), fitted.get_beta())
    assert type(fitted).load(tmp_path).top_words(5) == fitted.top_words(5)


def test_documents_without_known_words_are_uniform(fitted: TopicModel) -> None:
    corpus = from_texts(
        ["w3 w3 w4", "unheard of", "w20"], stop_words=False, min_df=1, max_df=1.0, min_tokens=0
    )
    theta = fitted.transform(corpus)
    np.testing.assert_allclose(theta[1], 1 / 3)
    np.testing.assert_allclose(theta.sum(1), 1, atol=1e-5)


def test_words_are_matched_by_spelling(fitted: TopicModel, three: Corpus) -> None:
    order = np.random.default_rng(1).permutation(24)
    place = np.argsort(order).astype(np.int32)
    shuffled = replace(three, words=[three.words[v] for v in order], tokens=place[three.tokens])
    np.testing.assert_allclose(fitted.transform(shuffled), fitted.get_theta(), atol=1e-6)


def test_unfitted_models_and_bad_arguments(fitted: TopicModel) -> None:
    with pytest.raises(ValueError, match="not been fitted"):
        type(fitted)().get_beta()
    with pytest.raises(ValueError, match="not been fitted"):
        type(fitted)().save("nowhere")
    for n in (0, 25):
        with pytest.raises(ValueError, match=f"got {n}"):
            fitted.top_ids(n)
    with pytest.raises(ValueError, match="ranking"):
        fitted.top_ids(3, "best")


@pytest.mark.parametrize("name", SMALL)
def test_one_topic_works_or_is_refused(name: str, three: Corpus) -> None:
    model = SMALL[name]()
    model.num_topics = 1
    if name in NEURAL:
        with pytest.raises(ValueError, match="at least 2 topics, got num_topics=1"):
            model.fit(three)
    else:
        np.testing.assert_allclose(model.fit(three).get_theta(), 1)
        with pytest.raises(ValueError, match="at least two topics"):
            model.top_ids(3, "zscore")


@pytest.mark.parametrize("name", SMALL)
def test_fewer_documents_than_topics(name: str, three: Corpus) -> None:
    with pytest.raises(ValueError, match="3 topics need at least as many documents"):
        SMALL[name]().fit(three.take([0, 1]))


def test_z_scores_over_topics() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 9))
    scores[:, 4] = 2.0
    z = standardised(scores)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.delete(z, 4, 1).var(0), 1)
    assert (z[:, 4] == 0).all()
    alone = np.zeros((6, 1))
    alone[0] = 1
    assert standardised(alone).max() == pytest.approx(5**0.5)


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "json", "class", "weights"])
def test_damaged_files(damage: str, three: Corpus, tmp_path: Path) -> None:
    SMALL["LDA"]().fit(three).save(tmp_path)
    head, weights = tmp_path / "model.json", next(tmp_path.glob("*.safetensors"))
    content = weights.read_bytes()
    if damage == "gone":
        head.unlink()
    elif damage == "cut":
        weights.write_bytes(content[:-8])
    elif damage == "flipped":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "json":
        head.write_text(head.read_text()[:-5])
    elif damage == "class":
        head.write_text(json.dumps({**json.loads(head.read_text()), "class": "Corpus"}))
    else:
        weights.unlink()
    with pytest.raises(DataError):
        load_model(tmp_path)


def test_a_file_of_another_class(three: Corpus, tmp_path: Path) -> None:
    SMALL["LDA"]().fit(three).save(tmp_path)
    with pytest.raises(DataError, match="holds a LDA, not a ETM"):
        ETM.load(tmp_path)


def test_lda_proportions_are_gensims(three: Corpus) -> None:
    """From topics that gensim fitted, our updates and gensim's end at the same gamma."""
    from gensim.matutils import Sparse2Corpus
    from gensim.models import LdaModel

    documents = Sparse2Corpus(three.counts, documents_columns=False)
    model = LdaModel(documents, num_topics=3, iterations=500, gamma_threshold=1e-6, random_state=0)
    theirs, _ = model.inference(list(documents))
    ours = posterior(three.counts, np.ascontiguousarray(model.expElogbeta.T), model.alpha, 500, tol=1e-6)
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_etm_reads_word_vectors_and_trains_them_when_asked(three: Corpus) -> None:
    given = torch.from_numpy(word_vectors(three, three.vectors))
    frozen = SMALL["ETM"](embeddings="frozen").fit(three)
    learned = SMALL["ETM"](embeddings="learned").fit(three)
    assert torch.equal(frozen.net.rho.detach(), given) and not torch.equal(learned.net.rho.detach(), given)
    own = SMALL["ETM"](embeddings="frozen").fit(three.with_vectors(None))
    assert own.net.rho.shape == (24, word2vec(three).table.shape[1])
    with pytest.raises(ValueError, match="embeddings"):
        ETM(embeddings="warm")


def test_mean_vectors_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    counts = csr_matrix(rng.poisson(1, (5, 6)))
    corpus = from_counts(counts, list("abcdef"))
    table = rng.normal(size=(40, 3)).astype(np.float16)
    rows = rng.integers(-1, 40, len(corpus.tokens)).astype(np.int32)
    vectors = Vectors("made", table, rows)

    def slow(groups: np.ndarray, size: int) -> np.ndarray:
        out = np.zeros((size, 3))
        for g in range(size):
            at = [r for r, group in zip(rows, groups, strict=True) if group == g and r >= 0]
            if at:
                out[g] = table[at].astype(np.float64).mean(0)
        return out

    np.testing.assert_allclose(word_vectors(corpus, vectors), slow(corpus.tokens, 6), atol=1e-6)
    np.testing.assert_allclose(
        document_vectors(corpus, vectors), slow(corpus.document_of_token, 5), atol=1e-6
    )


@pytest.mark.parametrize("ordered", [True, False])
def test_windows_against_a_loop(ordered: bool) -> None:
    rng = np.random.default_rng(0)
    lengths = [6, 1, 0, 4, 3, 9]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    corpus = Corpus(list("abcde"), rng.integers(0, 5, starts[-1]).astype(np.int32), starts, ordered=ordered)
    windows, document = windows_of(corpus)
    slow = []
    for d, (a, b) in enumerate(pairwise(starts)):
        runs = [(i, i + 4) for i in range(a, b - 3)] if ordered and b - a >= 4 else [(a, b)]
        slow += [(d, np.bincount(corpus.tokens[i:j], minlength=5)) for i, j in runs]
    assert document.tolist() == [d for d, _ in slow]
    np.testing.assert_array_equal(windows.toarray(), np.stack([row for _, row in slow]))


def test_bertopic_theta_is_the_librarys_approximate_distribution(three: Corpus) -> None:
    model = SMALL["BERTopic"]()
    kept: list[Any] = []
    build = model._library
    model._library = lambda size: kept.append(build(size)) or kept[-1]
    ordered = replace(three, ordered=True)
    theta = model.fit(ordered).get_theta()
    documents = [" ".join(map(str, ids)) for ids in np.split(ordered.tokens, ordered.starts[1:-1])]
    theirs, _ = kept[0].approximate_distribution(documents, min_similarity=LEAST)
    np.testing.assert_allclose(theta, theirs, atol=1e-5)


THREADS = """
import numpy as np, torch
from vqbook.topics import BERTopic, Vectors, load_corpus
corpus = load_corpus("bars", 60)
table = np.random.default_rng(0).normal(size=(25, 4)).astype(np.float32)
BERTopic(num_topics=3, min_cluster_size=3).fit(corpus.with_vectors(Vectors("made", table, corpus.tokens)))
print(torch.get_num_threads())
"""


def test_bertopic_leaves_the_number_of_threads_alone() -> None:
    """Else the next model of the same process would differ in its last bits."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", THREADS],
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1"]


def test_bertopic_says_what_it_lacks(three: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="bags without texts"):
        SMALL["BERTopic"]().fit(three.with_vectors(None))
    with pytest.raises(ValueError, match="at least 8 documents"):
        SMALL["BERTopic"]().fit(three.take(np.arange(6)))
    with pytest.warns(UserWarning, match="topics, not 40"):
        model = BERTopic(num_topics=40, min_cluster_size=3).fit(three)
    assert model.get_theta().shape[1] == len(model.get_beta()) < 40
    monkeypatch.setitem(__import__("sys").modules, "bertopic", None)
    with pytest.raises(DataError, match="topics extra"):
        SMALL["BERTopic"]().fit(three)


def test_outliers_are_said_and_still_get_proportions(three: Corpus) -> None:
    mixed = np.concatenate([three.counts.toarray(), np.ones((2, 24), int)])
    corpus = from_counts(csr_matrix(mixed), three.words)
    table = np.repeat(np.eye(3), 8, 0).astype(np.float32)
    model = BERTopic(num_topics=3, min_cluster_size=20, neighbours=5).fit(
        corpus.with_vectors(Vectors("made", table, corpus.tokens))
    )
    assert model.clusters.shape == (92,) and set(model.clusters.tolist()) <= {
        -1,
        *range(len(model.get_beta())),
    }
    np.testing.assert_allclose(model.get_theta()[-2:].sum(1), 1, atol=1e-5)


def test_rare_words_come_last_in_every_ranking(three: Corpus) -> None:
    rng = np.random.default_rng(0)
    counts = np.tile(three.counts.toarray(), (5, 1))
    odd = np.zeros((450, 1), int)
    odd[rng.choice(450, 4, replace=False)] = 9  # in four documents only, and exclusive
    corpus = from_counts(csr_matrix(np.hstack([counts, odd])), [*three.words, "odd"])
    model = LDA(num_topics=3, passes=2).fit(corpus)
    assert model.rare.tolist() == [False] * 24 + [True]
    for ranking in ("own", "raw", "zscore", "distinctive", "balanced"):
        top = model.top_ids(25, ranking)
        assert (top[:, -1] == 24).all() and (np.sort(top, axis=1) == np.arange(25)).all()
    assert not LDA(num_topics=3, passes=2).fit(corpus.take(np.arange(60))).rare[:24].any()

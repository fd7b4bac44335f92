from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import random as random_sparse

from vqbook.topics import (
    VARIANTS,
    ConceptualWords,
    Corpus,
    SoftConceptualWords,
    TopicVQVAE,
    Vectors,
    bag_of_codes,
    experts,
    from_counts,
    row_counts,
)
from vqbook.topics.bags import Bags
from vqbook.topics.cluster_start import cluster_start
from vqbook.topics.experts import log_likelihood
from vqbook.topics.model import load_model
from vqbook.topics.rankings import balanced, distinctive

GROUPS = ("apple pear plum fig", "lion bear wolf fox", "car bus tram train")
SMALL = dict(num_codes=12, dim=6, hidden=(16,), near=2, steps=150, batch=64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def corpus_of_three_topics(n: int = 90, seed: int = 0, *, by_token: bool = False) -> Corpus:
    """Documents of one group of words each, with vectors that lie near those of their group."""
    generator = np.random.default_rng(seed)
    words = " ".join(GROUPS).split()
    label = np.arange(n) % 3
    lengths = generator.integers(4, 12, n)
    tokens = (4 * label.repeat(lengths) + generator.integers(4, size=lengths.sum())).astype(np.int32)
    centres = 3 * np.eye(8)[:3].repeat(4, 0)
    table = (centres + 0.3 * np.random.default_rng(7).normal(size=(12, 8))).astype(np.float32)
    starts = np.concatenate([[0], lengths.cumsum()])
    corpus = Corpus(words, tokens, starts, labels=label)
    if by_token:
        noisy = table[tokens] + 0.1 * generator.normal(size=(len(tokens), 8))
        rows = np.arange(len(tokens), dtype=np.int32)
        return corpus.with_vectors(Vectors("tokens", noisy.astype(np.float16), rows))
    return corpus.with_vectors(Vectors("words", table, tokens))


@pytest.fixture(scope="module")
def concepts() -> ConceptualWords:
    corpus = corpus_of_three_topics()
    return ConceptualWords(**SMALL).fit(corpus.vectors.table, row_counts(corpus))


def model(concepts: ConceptualWords, **settings: object) -> TopicVQVAE:
    return TopicVQVAE(3, concepts=concepts, epochs=40, batch_size=30, **settings)


@pytest.mark.parametrize("alpha", ["vectors", "linear", "mlp"])
@pytest.mark.parametrize("loss", ["joint", "codes", "words"])
def test_topics_are_found(concepts: ConceptualWords, alpha: str, loss: str) -> None:
    corpus = corpus_of_three_topics()
    found = model(concepts, alpha=alpha, loss=loss, lr=5e-3).fit(corpus)
    theta, beta = found.get_theta(), found.get_beta()
    np.testing.assert_allclose(theta.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(beta.sum(1), 1, rtol=1e-4)
    assert beta.shape == (3, 12)
    assert sorted(" ".join(sorted(row)) for row in found.top_words(4)) == sorted(
        " ".join(sorted(group.split())) for group in GROUPS
    )
    top = theta.argmax(1)
    assert all(len(set(top[corpus.labels == label])) == 1 for label in range(3))


def test_vectors_of_tokens(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics(by_token=True)
    assert corpus.vectors.table.dtype == np.float16
    found = model(concepts, lr=5e-3).fit(corpus)
    assert {frozenset(row) for row in found.top_words(4)} == {frozenset(g.split()) for g in GROUPS}
    assert len(found.word_codes) == 0  # a word's codes depend on its neighbours
    part = corpus.take(np.arange(10, 40))
    np.testing.assert_allclose(found.transform(part), found.get_theta()[10:40], atol=1e-5)
    with pytest.raises(ValueError, match="no word vectors"):
        found.transform(part.with_vectors(None))


def test_new_documents_need_no_vectors(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics()
    found = model(concepts).fit(corpus)
    bare = Corpus(["pear", "unheard", "tram"], np.array([0, 1, 0, 2, 1], np.int32), np.array([0, 3, 4, 4, 5]))
    theta = found.transform(bare)
    np.testing.assert_allclose(theta.sum(1), 1, rtol=1e-5)
    assert theta[0].argmax() != theta[1].argmax()
    np.testing.assert_allclose(theta[2:], 1 / 3)  # nothing known in them
    np.testing.assert_allclose(found.transform(corpus), found.get_theta())


def test_word_vectors_are_trained_where_there_are_none() -> None:
    corpus = corpus_of_three_topics().with_vectors(None)
    found = TopicVQVAE(3, concepts=dict(SMALL, dim=6), epochs=2, batch_size=30).fit(corpus)
    assert found.concepts_.input_dim == 100
    assert found.get_beta().shape == (3, 12)


@pytest.mark.parametrize("kind", [ConceptualWords, SoftConceptualWords])
def test_saved_and_loaded(kind: type[ConceptualWords], tmp_path: Path) -> None:
    corpus = corpus_of_three_topics()
    found = TopicVQVAE(3, concepts=kind(**SMALL), epochs=3, batch_size=30, alpha="mlp").fit(corpus)
    found.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert isinstance(again, TopicVQVAE)
    assert type(again.concepts_) is kind
    np.testing.assert_array_equal(again.get_beta(), found.get_beta())
    np.testing.assert_array_equal(again.get_theta(), found.get_theta())
    np.testing.assert_allclose(again.transform(corpus), found.get_theta(), atol=1e-6)
    assert again.top_words(5) == found.top_words(5)
    assert json.dumps(again.get_params()) == json.dumps(found.get_params())
    assert again.concepts_.neighbours(corpus, 2) == found.concepts_.neighbours(corpus, 2)


def test_a_seed_decides_and_leaves_the_world_alone(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (TopicVQVAE(3, concepts=SMALL, epochs=3, batch_size=30).fit(corpus) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(first.get_beta(), second.get_beta())
    other = TopicVQVAE(3, concepts=SMALL, epochs=3, batch_size=30, seed=1).fit(corpus)
    assert not np.array_equal(first.get_beta(), other.get_beta())


def test_fitted_concepts_are_shared_and_others_left_alone(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics()
    assert model(concepts).fit(corpus).concepts_ is concepts
    fresh = ConceptualWords(**SMALL)
    TopicVQVAE(3, concepts=fresh, epochs=2, batch_size=30).fit(corpus)
    assert not fresh.fitted


@pytest.mark.parametrize("name", VARIANTS)
def test_the_authors_variants_run(name: str) -> None:
    settings = copy.deepcopy(VARIANTS[name]) | {"epochs": 3, "batch_size": 30}
    settings["concepts"] |= {"num_codes": 12, "steps": 20, "hidden": (16, 8), "near": 3}
    corpus = corpus_of_three_topics()
    found = TopicVQVAE(3, **settings).fit(corpus)
    assert found.concepts_.weighting == ("inverse" if name == "july-2023" else "ones")
    assert set(found.history.terms) >= {"words", "kl"}
    assert ("codes" in found.history.terms) == (name == "july-2023")
    own, raw = found.scores("own"), found.scores("logits")
    if name == "release":
        np.testing.assert_allclose(own.mean(0), 0, atol=1e-5)
        assert own.max() <= np.sqrt(2) + 1e-5
    else:
        np.testing.assert_array_equal(own, raw)


def test_inverse_weights_have_length_one() -> None:
    corpus = corpus_of_three_topics()
    found = ConceptualWords(**SMALL | {"weighting": "inverse"}).fit(corpus.vectors.table)
    codes, weights = found.assign(corpus.vectors.table)
    np.testing.assert_allclose((weights**2).sum(1), 1, rtol=1e-5)
    assert (weights[:, 0] >= weights[:, 1]).all()
    by_hand = np.zeros((len(corpus), 12))
    for d in range(len(corpus)):
        for row in corpus.tokens[corpus.starts[d] : corpus.starts[d + 1]]:
            by_hand[d, codes[row]] += weights[row]
    np.testing.assert_allclose(found.bag(corpus).toarray(), by_hand, rtol=1e-5)


def test_bags_are_remembered_and_travel_without_them(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics()
    assert concepts.bag(corpus) is concepts.bag(corpus)
    again = pickle.loads(pickle.dumps(concepts))
    assert len(again._bags) == 0
    assert (again.bag(corpus) != concepts.bag(corpus)).nnz == 0


def test_codes_are_named_by_words_near_them(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics()
    names = concepts.neighbours(corpus, 3)
    assert len(names) == 12
    groups = [set(group.split()) for group in GROUPS]
    used = np.flatnonzero(concepts.bag(corpus).sum(0).A1)
    assert all(any(set(names[m]) <= group for group in groups) for m in used)


def test_soft_words_are_responsibilities() -> None:
    corpus = corpus_of_three_topics()
    table = corpus.vectors.table
    found = SoftConceptualWords(**SMALL | {"near": 12}).fit(table, row_counts(corpus))
    q = found.responsibilities(table)
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
    codes, weights = found.assign(table)
    np.testing.assert_allclose(weights, np.take_along_axis(q.numpy(), codes, 1), rtol=1e-4)
    total = found.bag(corpus).sum(1).A1
    np.testing.assert_allclose(total, corpus.lengths, rtol=1e-4)  # one for each token
    assert found.quantizer.prior_logits.any()  # the prior over codes is learned
    sharp = copy.deepcopy(found)
    sharp.temperature = 0.05
    assert sharp.responsibilities(table).amax(1).mean() > q.amax(1).mean()
    few = SoftConceptualWords(**SMALL).fit(table)
    np.testing.assert_allclose(few.assign(table).weights.sum(1), 1, rtol=1e-5)
    assert few.bag(corpus).getnnz(1).max() <= 12


def test_the_corpus_term_follows_the_corpus() -> None:
    """With λ = 1 the learned prior comes to the aggregate of all documents, whatever each one uses."""
    corpus = corpus_of_three_topics()
    found = SoftConceptualWords(**SMALL | {"steps": 600, "lr": 5e-3}).fit(corpus.vectors.table)
    q = found.responsibilities(corpus.vectors.table).mean(0)
    prior = found.quantizer.log_prior.exp()
    uniform = torch.full_like(prior, 1 / 12)
    assert (q - prior).abs().sum() < (q - uniform).abs().sum()


def test_generated_documents(concepts: ConceptualWords) -> None:
    found = model(concepts, lr=5e-3).fit(corpus_of_three_topics())
    words = found.generate(0, 50, generator=rng())
    assert len(words) == 50
    assert words == found.generate(0, 50, generator=rng())
    own = set(found.top_words(4)[0])
    assert sum(word in own for word in words) > 25
    assert len(found.generate(np.array([0.2, 0.3, 0.5]), 7)) == 7
    for wrong in (3, -1, np.array([0.5, 0.5]), np.array([0.9, 0.9, -0.8])):
        with pytest.raises(ValueError, match=r"topics are numbered|theta must be"):
            found.generate(wrong)


def test_pieces_of_the_bound(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics()
    found = model(concepts, loss="joint").fit(corpus)
    bound = found.elbo(corpus, samples=3, generator=rng())
    assert bound.codes.shape == bound.words.shape == bound.kl.shape == (90,)
    assert (bound.codes < 0).all()
    assert (bound.kl > 0).all()
    np.testing.assert_allclose(bound.total, bound.codes + bound.words - bound.kl)
    assert found.history.terms["total"][-1] < found.history.terms["total"][0]


def test_one_topic_is_refused_in_one_sentence(concepts: ConceptualWords) -> None:
    with pytest.raises(ValueError, match="needs at least 2 topics"):
        TopicVQVAE(1, concepts=concepts).fit(corpus_of_three_topics())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(near=0), "near must lie between"),
        (dict(near=13), "near must lie between"),
        (dict(num_codes=0), "at least 1"),
        (dict(weighting="both"), "weighting is"),
        (dict(start="zero"), "start"),
        (dict(combine="max"), "combine must be"),
    ],
)
def test_wrong_settings_of_concepts(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConceptualWords(**SMALL | settings)


def test_wrong_use(concepts: ConceptualWords) -> None:
    with pytest.raises(ValueError, match="call fit first"):
        ConceptualWords().encode(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"expected word vectors \(R, 8\)"):
        concepts.nearest(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"table of word vectors \(R, E\)"):
        ConceptualWords(**SMALL).fit(np.zeros(3))
    with pytest.raises(ValueError, match="weight of at least 0"):
        ConceptualWords(**SMALL).fit(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(ValueError, match="not been fitted"):
        TopicVQVAE().get_beta()
    for wrong in (dict(start="middle"), dict(alpha="cubic"), dict(loss="none")):
        with pytest.raises(ValueError, match=r"start must|alpha is"):
            model(concepts, **wrong).fit(corpus_of_three_topics())
    with pytest.raises(ValueError, match="temperature"):
        SoftConceptualWords(temperature=0)
    with pytest.raises(ValueError, match="ranking must"):
        model(concepts).fit(corpus_of_three_topics()).scores("best")


@pytest.mark.parametrize("entries", [1 << 22, 16 * 7])
def test_log_likelihood_and_its_gradients(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "ENTRIES", entries)
    counts = random_sparse(16, 40, 0.3, format="csr", random_state=0)
    counts.data = np.ceil(5 * counts.data)
    batch = Bags(counts).batch(torch.arange(16))
    theta = torch.randn(16, 4, generator=rng(1)).softmax(-1).requires_grad_()
    table = torch.randn(4, 40, generator=rng(2)).requires_grad_()
    weights = torch.randn(16, generator=rng(3))
    ours = log_likelihood(batch, theta, table)
    naive = (batch.dense() * (theta @ table).log_softmax(-1)).sum(-1)
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-4)
    want = torch.autograd.grad((naive * weights).sum(), (theta, table))
    found = torch.autograd.grad((ours * weights).sum(), (theta, table))
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_bag_of_codes_by_hand() -> None:
    rows = np.array([0, 1, 1, -1, 2, 0], np.int32)
    starts, codes = np.array([0, 3, 4, 6]), np.array([[0, 3], [3, 1], [2, 0]], np.int32)
    want = [[1, 2, 0, 3], [0, 0, 0, 0], [2, 0, 1, 1]]
    np.testing.assert_array_equal(bag_of_codes(rows, starts, codes, 4).toarray(), want)


def test_clusters_to_start_from(concepts: ConceptualWords) -> None:
    corpus = corpus_of_three_topics()
    rho = torch.nn.functional.normalize(concepts.codebook, dim=-1)
    beta = cluster_start(concepts.bag(corpus), rho, 3, seed=0)
    assert beta.shape == (3, 12)
    assert beta.std() == pytest.approx(1, abs=1e-5)
    likeliest = (concepts.bag(corpus) @ beta.T.numpy()).argmax(1)
    assert all(len(set(likeliest[corpus.labels == label])) == 1 for label in range(3))


def test_distinctive_words() -> None:
    logits = np.array([[5.0, 5.0, 0.0], [5.0, 0.0, 0.0], [5.0, 0.0, 1.0]])
    scores = distinctive(logits)
    assert scores[0].argmax() == 1  # not the word that all like
    assert scores[2].argmax() == 2
    np.testing.assert_array_equal(distinctive(logits[:1]), logits[:1])


def test_balanced_words_are_distinctive_and_frequent(concepts: ConceptualWords) -> None:
    logits = np.array([[2.0, 2.0, 0.0, 1.0], [0.0, 0.0, 2.0, 1.0]])
    beta = np.array([[0.1, 0.6, 0.1, 0.2], [0.1, 0.1, 0.1, 0.7]])
    assert balanced(logits, beta)[0].argmax() == 1  # of two alike the more frequent
    assert balanced(logits, beta)[1].argmax() == 2  # not the most frequent, which both topics have
    model = TopicVQVAE(3, concepts=concepts, epochs=2, ranking="balanced").fit(corpus_of_three_topics())
    np.testing.assert_array_equal(model.top_ids(5), model.top_ids(5, "balanced"))
    expected = model.scores("distinctive") * np.sqrt(model.get_beta())
    np.testing.assert_allclose(model.scores(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"ranking must be None or one of raw, .* got 'best'"):
        TopicVQVAE(3, ranking="best")


def test_words_the_corpus_does_not_use_do_no_harm(concepts: ConceptualWords) -> None:
    counts = np.zeros((40, 13))
    counts[np.arange(40), np.arange(40) % 12] = 3
    bags = from_counts(counts, [*" ".join(GROUPS).split(), "never"])
    table = np.zeros((13, 8), np.float32)
    table[:12] = corpus_of_three_topics().vectors.table
    found = model(concepts).fit(bags.with_vectors(Vectors("words", table, bags.tokens)))
    assert np.isfinite(found.get_beta()).all()
    assert all("never" not in row for row in found.top_words(4))

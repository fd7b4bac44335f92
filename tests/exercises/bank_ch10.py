"""Plausible wrong answers to the exercises of chapter 10."""

from __future__ import annotations

import itertools
import math

import numpy as np
from wrong import Wrong

from vqbook.topics import Cooccurrence


def one_topic_a_document(alpha, beta, lengths, rng):
    theta = rng.dirichlet(alpha, len(lengths))
    topic = [rng.choice(len(alpha), p=t) for t in theta]
    return np.stack([rng.multinomial(n, beta[t]) for n, t in zip(lengths, topic, strict=True)])


def one_theta_for_all(alpha, beta, lengths, rng):
    theta = np.random.default_rng(2).dirichlet(alpha)
    return np.stack([rng.multinomial(n, theta @ beta) for n in lengths])


def the_mean_theta(alpha, beta, lengths, rng):
    return np.stack([rng.multinomial(n, alpha / alpha.sum() @ beta) for n in lengths])


def theta_for_each_word(alpha, beta, lengths, rng):
    counts = np.zeros((len(lengths), beta.shape[1]), int)
    for d, n in enumerate(lengths):
        for theta in rng.dirichlet(alpha, n):
            counts[d, rng.choice(beta.shape[1], p=theta @ beta)] += 1
    return counts


def expected_counts(alpha, beta, lengths, rng):
    return lengths[:, None] * (rng.dirichlet(alpha, len(lengths)) @ beta)


def uniform_theta(alpha, beta, lengths, rng):
    theta = rng.dirichlet(np.full(len(alpha), alpha.mean()), len(lengths))
    return np.stack([rng.multinomial(n, t @ beta) for n, t in zip(lengths, theta, strict=True)])


def fixed_length(alpha, beta, lengths, rng):
    theta = rng.dirichlet(alpha, len(lengths))
    return np.stack([rng.multinomial(int(np.mean(lengths)), t @ beta) for t in theta])


def without_replacement(alpha, beta, lengths, rng):
    theta = rng.dirichlet(alpha, len(lengths))
    words = [
        rng.choice(beta.shape[1], min(n, beta.shape[1]), replace=False, p=t @ beta)
        for n, t in zip(lengths, theta, strict=True)
    ]
    return np.stack([np.bincount(w, minlength=beta.shape[1]) for w in words])


def _npmi(
    *,
    slide=True,
    short=True,
    boolean=True,
    itself=False,
    normalise=True,
    mean=True,
    whole=False,
    never=None,
    use_eps=True,
):
    """NPMI with a part replaced."""

    def npmi(topic, docs, window, eps):
        eps = eps if use_eps else 0.0
        if whole:
            window = max(map(len, docs))
        held = []
        for doc in docs:
            if not short and len(doc) < window:
                continue
            if slide:
                held += [doc[k : k + window] for k in range(max(len(doc) - window + 1, 1))]
            else:
                held += [doc[k : k + window] for k in range(0, len(doc), window)]
        n = np.array([[w.count(i) for i in topic] for w in held], float)
        n = np.minimum(n, 1) if boolean else n
        one, both = n.mean(0), n.T @ n / len(held)
        scores = []
        for i, j in itertools.product(range(len(topic)), repeat=2):
            if i == j:
                if itself:
                    scores.append(1.0)
                continue
            joint = both[i, j] + eps
            if both[i, j] == 0 and never is not None:
                scores.append(never)
                continue
            score = math.log(joint / (one[i] * one[j])) if joint else -math.inf
            scores.append(score / -math.log(joint) if normalise and joint else score)
        return sum(scores) / (len(scores) if mean else 1)

    return npmi


def all_words(top_words, n):
    flat = [w for row in top_words for w in row]
    return len(set(flat)) / len(flat)


def over_n(top_words, n):
    return len({w for row in top_words for w in row[:n]}) / n


def jaccard(top_words, n):
    first = [set(row[:n]) for row in top_words]
    overlaps = [len(a & b) / len(a | b) for a, b in itertools.combinations(first, 2)]
    return 1 - sum(overlaps) / len(overlaps)


def in_one_list_only(top_words, n):
    flat = [w for row in top_words for w in row[:n]]
    return sum(flat.count(w) == 1 for w in set(flat)) / len(flat)


def how_many(top_words, n):
    return len({w for row in top_words for w in row[:n]})


def given(topics, corpus):
    return Cooccurrence(corpus, topics, window=topics.shape[1]).npmi(topics).mean()


def window_110(topics, corpus):
    return Cooccurrence(corpus, topics, window=110).npmi(topics).mean()


def whole_documents(topics, corpus):
    return Cooccurrence(corpus, topics, window=None).npmi(topics).mean()


def at_most_twenty(topics, corpus):
    return Cooccurrence(corpus, topics, window=min(topics.shape[1], 20)).npmi(topics).mean()


def best_half(topics, corpus):
    return np.sort(Cooccurrence(corpus, topics, window=10).npmi(topics))[len(topics) // 2 :].mean()


def the_best(topics, corpus):
    return Cooccurrence(corpus, topics, window=10).npmi(topics).max()


BANK = {
    "ex-tm-draw": [
        Wrong("one topic for each document", one_topic_a_document, says="for each word"),
        Wrong("one theta for all documents", one_theta_for_all, says="once for each document"),
        Wrong("the mean proportions for all", the_mean_theta, says="once for the document"),
        Wrong("a new theta for each word", theta_for_each_word, says="kept for its words"),
        Wrong("expected counts", expected_counts, says="whole numbers"),
        Wrong("alpha taken as one number", uniform_theta, says="one entry for each topic"),
        Wrong("all documents of one length", fixed_length, says="document 0 should have 5 words"),
        Wrong("words without replacement", without_replacement, says="should have"),
    ],
    "ex-tm-npmi": [
        Wrong("windows that do not slide", _npmi(slide=False), says="do not slide"),
        Wrong("documents as windows", _npmi(whole=True), says="whole documents"),
        Wrong("short documents dropped", _npmi(short=False), says="one window"),
        Wrong("counts and not presence", _npmi(boolean=False), says="boolean"),
        Wrong("a word paired with itself", _npmi(itself=True), says="with itself"),
        Wrong("PMI", _npmi(normalise=False), says="this is PMI"),
        Wrong("a sum", _npmi(mean=False), says="mean over pairs"),
        Wrong("pairs that never meet score -1", _npmi(never=-1.0), says="-1 + log"),
        Wrong("pairs that never meet score 0", _npmi(never=0.0), says="never meets"),
        Wrong("no epsilon", _npmi(use_eps=False), says="finite"),
    ],
    "ex-tm-diversity": [
        Wrong("all words of the lists", all_words, says="first n"),
        Wrong("divided by n alone", over_n, says="n alone"),
        Wrong("mean overlap of pairs", jaccard, says="Jaccard"),
        Wrong("words that stand in one list", in_one_list_only, says="one list only"),
        Wrong("a number of words", how_many, says="share"),
    ],
    "ex-tm-window": [
        Wrong("as given", given, says="sets the window"),
        Wrong("a window of 110 for both", window_110, says="window of 10"),
        Wrong("documents for both", whole_documents, says="whole documents"),
        Wrong("the window has a ceiling", at_most_twenty, says="depends on how many"),
        Wrong("the best half", best_half, says="best half"),
        Wrong("the best topic", the_best, says="best topic"),
    ],
}

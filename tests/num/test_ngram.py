"""The n-gram model against a plain dictionary version, and its laws."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from bloomery.num.ngram import fit


def reference(documents: list[list[int]], order: int, vocab: int, discounts: list[tuple[float, float, float]]):
    """Interpolated Kneser-Ney in dictionaries, with the discounts given; returns p(context tuple, token)."""
    tables: list[dict[tuple, Counter]] = []
    for k in range(1, order + 1):
        table: dict[tuple, Counter] = defaultdict(Counter)
        lefts: dict[tuple, set] = defaultdict(set)
        for doc in documents:
            for i in range(1, len(doc)):
                if i - k + 1 < 0:
                    continue
                gram = tuple(doc[i - k + 1 : i + 1])
                if k == order or i - k + 1 == 0:
                    table[gram[:-1]][gram[-1]] += 1
                elif doc[i - k] not in lefts[gram]:
                    lefts[gram].add(doc[i - k])
                    table[gram[:-1]][gram[-1]] += 1
        tables.append(table)

    def probability(context: tuple, token: int, k: int) -> float:
        if k == 0:
            return 1 / vocab
        context = context[len(context) - (k - 1) :]
        counts, d = tables[k - 1].get(context), (0.0, *discounts[k - 1])
        lower = probability(context[1:] if context else (), token, k - 1)
        if not counts:
            return lower
        total = sum(counts.values())
        free = sum(d[min(c, 3)] for c in counts.values())
        return (max(counts[token] - d[min(counts[token], 3)], 0) + free * lower) / total

    return lambda context, token: probability(tuple(context), token, min(order, len(context) + 1))


def corpus(seed: int, vocab: int = 9, documents: int = 12) -> list[list[int]]:
    gen = np.random.default_rng(seed)
    return [[0, *(gen.integers(2, vocab, gen.integers(0, 30)) // gen.integers(1, 3)).clip(2).tolist(), 1] for _ in range(documents)]


def flat(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([np.array(d) for d in documents]), np.concatenate([[0], np.cumsum([len(d) for d in documents])])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_dictionary_version(order: int) -> None:
    documents, fresh = corpus(1), corpus(2, vocab=12)
    model = fit(*flat(documents), order, 12)
    slow = reference(documents, order, 12, [level.discounts for level in model.levels])
    for doc in [*documents[:4], *fresh]:
        expected = [math.log(slow(doc[:i], doc[i])) for i in range(1, len(doc))]
        np.testing.assert_allclose(model.score(np.array(doc)), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    model = fit(*flat(corpus(3)), order, 12)
    for context in ([0], [0, 3], [0, 11], [0, 2, 3, 4], [0, 2, 2, 2, 2, 2, 2], [5, 4, 1]):
        p = model.distribution(np.array(context))
        assert p.min() > 0
        assert abs(p.sum() - 1) < 1e-12


def test_many_documents_at_once_equal_each_alone() -> None:
    model, fresh = fit(*flat(corpus(4)), 5, 12), corpus(5)
    together = model.score_documents(*flat(fresh))
    alone = np.concatenate([np.concatenate([[0.0], model.score(np.array(d))]) for d in fresh])
    np.testing.assert_array_equal(together, alone)


def test_documents_do_not_run_into_each_other() -> None:
    documents = corpus(6)
    one = fit(*flat(documents), 4, 12)
    other = fit(*flat(documents[::-1]), 4, 12)
    for doc in corpus(7):
        np.testing.assert_allclose(one.score(np.array(doc)), other.score(np.array(doc)), rtol=1e-12)


def test_exact_for_a_vocabulary_too_large_to_pack_five_ids_in_a_word() -> None:
    documents, stretch = corpus(8), 1 << 21
    small, large = fit(*flat(documents), 5, 9), fit(*flat([[t * stretch for t in d] for d in documents]), 5, 9 * stretch)
    doc = np.array(documents[0])
    below = [float(np.max(np.abs(a.mass - b.mass))) for a, b in zip(small.levels, large.levels, strict=True)]
    assert max(below) == 0
    assert np.all(large.score(doc * stretch) <= small.score(doc) + 1e-12)  # only the uniform share is thinner


def test_discounts_follow_chen_and_goodman() -> None:
    counts = [1] * 8 + [2] * 4 + [3] * 3 + [4] * 2
    tokens = np.concatenate([[0], np.repeat(np.arange(2, 2 + len(counts)), counts)])
    model = fit(tokens, np.array([0, len(tokens)]), 1, 2 + len(counts))
    y = 8 / (8 + 2 * 4)
    assert model.levels[0].discounts == pytest.approx((1 - 2 * y * 4 / 8, 2 - 3 * y * 3 / 4, 3 - 4 * y * 2 / 3), rel=1e-12)


def test_discounts_that_counts_cannot_give_are_fixed() -> None:
    assert fit(np.array([0, 2, 3, 4]), np.array([0, 4]), 1, 5).levels[0].discounts == (0.5, 1.0, 1.5)


def test_training_text_gets_cheaper_with_order() -> None:
    documents = corpus(9, documents=40)
    bits = [-fit(*flat(documents), order, 12).score_documents(*flat(documents)).sum() for order in (1, 2, 3, 5)]
    assert bits == sorted(bits, reverse=True)


@pytest.mark.parametrize(
    ("tokens", "offsets", "order", "vocab"),
    [([0, 5], [0, 2], 2, 5), ([0, -1], [0, 2], 2, 5), ([0, 1], [0, 2], 0, 5), ([0, 1], [0, 1], 2, 5), ([0, 1], [0, 1, 2], 2, 5)],
)
def test_wrong_input_is_refused(tokens: list[int], offsets: list[int], order: int, vocab: int) -> None:
    with pytest.raises(ValueError):
        fit(np.array(tokens), np.array(offsets), order, vocab)

from __future__ import annotations

import numpy as np
import pytest

from bloomery.num.word_vectors import Space, aligned, information, largest, learn, nearness, neighbours, of_tokens, unit
from bloomery.seams import Rng


def test_nearness_counts_pairs_by_their_distance_and_not_over_gaps():
    near = nearness(np.array([0, 1, 2, -1, -1, 0]), 3, 2)
    assert near.tolist() == [[0, 1, 0.5], [1, 0, 1], [0.5, 1, 0]]


def test_information_is_the_formula():
    near = np.array([[0, 4.0, 1], [4, 2, 0], [1, 0, 0]])
    word = near.sum(1)
    context = word**0.75 / (word**0.75).sum()
    want = [[max(np.log(n / (word[i] * context[j])), 0) if (n := near[i, j]) else 0 for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(information(near), want)


def test_largest_directions_are_those_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 40))
    left, values, _ = np.linalg.svd(matrix)
    found = largest(matrix, 6, Rng((0,)))
    np.testing.assert_allclose(found @ found.T, (left[:, :6] * values[:6]) @ left[:, :6].T, atol=1e-8)


def test_a_turned_space_is_turned_back():
    rng = np.random.default_rng(0)
    source, turn = rng.standard_normal((30, 5)), np.linalg.qr(rng.standard_normal((5, 5)))[0]
    np.testing.assert_allclose(aligned(source, source @ turn), turn, atol=1e-10)
    found = aligned(source, rng.standard_normal((30, 5)))
    np.testing.assert_allclose(found @ found.T, np.eye(5), atol=1e-10)


def test_tokens_are_means_of_their_words_by_frequency():
    space = Space({"ab": 0, "ac": 1}, np.array([3.0, 1.0]), np.eye(2))
    found = of_tokens(space, lambda text: [ord(c) - ord("a") if c != " " else 3 for c in text], 5)
    np.testing.assert_allclose(found, [[0.75, 0.25], [1, 0], [0, 1], [0.75, 0.25], [0, 0]])


def test_neighbours_are_the_nearest_and_none_where_nothing_is_known():
    source, target = np.array([[1.0, 0], [0, 0], [0.6, 0.8], [-1, 0]]), np.array([[2.0, 0], [0, 0]])
    near, weight = neighbours(target, source, 2, 0.5)
    want = np.exp(np.array([1.0, 0.6]) / 0.5)
    assert near[0].tolist() == [0, 2] and not weight[1].any()
    np.testing.assert_allclose(weight[0], want / want.sum())


def test_words_used_alike_are_near_and_the_same_text_gives_the_same_vectors():
    draw = np.random.default_rng(0)
    verbs = {"cat": ["purrs", "sleeps"], "dog": ["barks", "runs"], "kitten": ["purrs", "sleeps"], "puppy": ["barks", "runs"]}
    texts = [f"the {name} {draw.choice(verbs[name])} ." for name in draw.choice(list(verbs), 2000)]
    space = learn(texts, 50, 2, 6, Rng((0,)))
    likeness = unit(space.vectors_NC) @ unit(space.vectors_NC).T
    at = space.words
    assert likeness[at["cat"], at["kitten"]] > likeness[at["cat"], at["dog"]] + 0.2
    assert np.array_equal(space.vectors_NC, learn(texts, 50, 2, 6, Rng((0,))).vectors_NC)
    with pytest.raises(ValueError, match="too few"):
        learn(["a a a"], 5, 2, 2, Rng((0,)))

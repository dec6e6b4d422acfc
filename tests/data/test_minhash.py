from __future__ import annotations

import random
import re

import numpy as np
import pytest

from bloomery.data.minhash import banding, buckets, shingle_sets, signatures


def plain(text: str) -> set[tuple[bytes, ...]]:
    words = re.findall(rb"[a-z0-9_\x80-\xff]+", text.lower().encode())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def some_texts() -> list[str]:
    draw = random.Random(3)
    words = ["the", "Über", "x_1", "日本", "a", "return", "self", "Não", "42"]
    return [
        "",
        "a b c d",
        "a b c d e",
        *("".join(draw.choice(words) + draw.choice(" .\n(-") for _ in range(draw.randrange(5, 300))) for _ in range(40)),
    ]


def test_shingles_exact_against_plain_python():
    texts = some_texts()
    sets, expected = shingle_sets(texts), [plain(text) for text in texts]
    assert [len(found) for found in sets] == [len(found) for found in expected]
    for i in range(0, len(texts), 5):
        for j in range(len(texts)):
            assert len(np.intersect1d(sets[i], sets[j])) == len(expected[i] & expected[j])


def test_signatures_estimate_jaccard_without_bias():
    draw = random.Random(5)
    words = [f"w{draw.randrange(10**6)}" for _ in range(1200)]
    errors = []
    for shift in range(0, 1000, 50):
        pair = [" ".join(words[:1000]), " ".join(words[shift // 5 : 1000 + shift // 5])]
        (a, b), _ = signatures(pair)
        left, right = shingle_sets(pair)
        truth = len(np.intersect1d(left, right)) / len(np.union1d(left, right))
        errors.append((a == b).mean() - truth)
    assert abs(np.mean(errors)) < 0.03 and np.max(np.abs(errors)) < 5 * np.sqrt(0.25 / 128)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_banding_proposes_almost_every_pair_at_the_threshold(threshold):
    bands, rows = banding(threshold)
    assert bands * rows <= 128 and 1 - (1 - threshold**rows) ** bands >= 0.99
    if rows < 128:
        assert 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) < 0.99


def test_buckets_hold_exactly_the_rows_that_agree_in_a_band():
    draw = np.random.default_rng(0)
    signature = draw.integers(0, 2, (30, 128)).astype(np.uint32)
    signature[7] = signature[3]
    found = {(int(i), int(j)) for group in buckets(signature, 20, 6) for i in group for j in group if i < j}
    expected = {
        (i, j)
        for i in range(30)
        for j in range(i + 1, 30)
        if any((signature[i, 6 * k : 6 * k + 6] == signature[j, 6 * k : 6 * k + 6]).all() for k in range(20))
    }
    assert found == expected and (3, 7) in found
    assert buckets(signature[:0], 20, 6) == [] and buckets(signature[:1], 20, 6) == []


def test_documents_without_five_words_have_no_shingle():
    _, counts = signatures(["", "one two three four", "one two three four five"])
    assert counts.tolist() == [0, 0, 1]
    assert [part.shape for part in signatures([])] == [(0, 128), (0,)]

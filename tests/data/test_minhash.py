from __future__ import annotations

import random

import numpy as np
import pytest

from bloomery.data.crossing import word_runs
from bloomery.data.minhash import band_keys, banding, flat_shingle_sets, shingle_sets, signatures


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
    sets, expected = shingle_sets(texts), [word_runs(text) for text in texts]
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


def test_band_keys_are_equal_exactly_where_the_band_is():
    draw = np.random.default_rng(0)
    signature = draw.integers(0, 2, (30, 128)).astype(np.uint32)
    keys = band_keys(signature, 20, 6)
    assert keys.shape == (30, 20)
    bands = [[(band, *row[6 * band : 6 * band + 6].tolist()) for band in range(20)] for row in signature]
    assert len(np.unique(keys)) == len({band for row in bands for band in row})
    for i in range(30):
        for j in range(30):
            assert (keys[i] == keys[j]).tolist() == [a == b for a, b in zip(bands[i], bands[j], strict=True)]


def test_an_arrow_column_and_any_division_give_the_same():
    import pyarrow as pa

    texts = some_texts()
    column = pa.array(texts)
    for found, counts in (flat_shingle_sets(column), flat_shingle_sets(pa.chunked_array([column[:7], column[7:]]))):
        whole = flat_shingle_sets(texts)
        assert np.array_equal(found, whole[0]) and np.array_equal(counts, whole[1])
    assert np.array_equal(signatures(column[5:])[0][1:], signatures(texts)[0][6:])
    assert np.array_equal(signatures([texts[20]])[0][0], signatures(texts)[0][20])


def test_documents_without_five_words_have_no_shingle():
    _, counts = signatures(["", "one two three four", "one two three four five"])
    assert counts.tolist() == [0, 0, 1]
    assert [part.shape for part in signatures([])] == [(0, 128), (0,)]

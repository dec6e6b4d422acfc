from __future__ import annotations

import math
import re
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.num.hashed_ngrams import distribution, divergence, hashed


def test_counts_and_sums_by_hand():
    found = hashed(["The cat, the", "", "cat"], 1 << 20, n=1)
    assert np.diff(found.starts).tolist() == [4, 0, 1]
    the, cat, comma, again = found.buckets[:4]
    assert the == again != cat != comma and found.buckets[4] == cat
    counts = found.counts(np.array([True, False, True]))
    assert counts[[the, cat, comma]].tolist() == [2, 2, 1] and counts.sum() == 5
    values = np.zeros(1 << 20)
    values[[the, cat]] = 1.0, 10.0
    assert np.diff(found.running(values)).tolist() == [12, 0, 10] and found.running(values, 5.0)[[0, -1]].tolist() == [5, 27]


def by_definition(text: str, buckets: int, n: int) -> list[int]:
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    grams = (" ".join(words[k : k + length]) for length in range(1, n + 1) for k in range(len(words) - length + 1))
    return [zlib.crc32(gram.encode("utf-8", "surrogatepass")) % buckets for gram in grams]


@settings(deadline=None)
@given(
    texts=st.lists(st.text(st.one_of(st.sampled_from(" \nab_1.,é漢\u0307"), st.characters(codec=None))), max_size=4), n=st.integers(1, 4)
)
def test_property_words_and_hashes_are_those_of_the_pattern_and_of_zlib(texts, n):
    texts = [*texts, "İ ΣΑΣ don't \ud800x\x1cy\x85 10\u00a0km — 日本語、テスト😀😀"]
    found = hashed(texts, 1 << 33, n)
    assert found.buckets.tolist() == [bucket for text in texts for bucket in by_definition(text, 1 << 33, n)]
    assert np.diff(found.starts).tolist() == [len(by_definition(text, 7, n)) for text in texts]


def test_longer_features_and_few_buckets():
    assert np.diff(hashed(["a b c", "a"], 7, n=3).starts).tolist() == [6, 1]
    assert hashed(["a b c"] * 3, 7).buckets.max() < 7 and hashed([], 7).starts.tolist() == [0]
    assert np.array_equal(hashed(["a b"], 99).buckets, hashed(["A  b"], 99).buckets)


def test_divergence_by_hand():
    p, q = distribution(np.array([1.0, 3.0]), 0), distribution(np.array([1.0, 1.0]), 0.5)
    assert p.tolist() == [0.25, 0.75] and q.tolist() == [0.5, 0.5]
    assert divergence(p, q) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5)) and divergence(p, p) == 0
    assert divergence(np.array([0.0, 1.0]), q) == pytest.approx(math.log(2))

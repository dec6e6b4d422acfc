from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from families import variants

from bloomery.data.crossing import largest_crossing, nearest, word_runs
from bloomery.data.duplicates import jaccard
from bloomery.data.minhash import shingle_sets


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_nearest_is_exact_at_and_above_the_threshold(threshold):
    held, others = variants(4, 15), [*variants(4, 70)[15:], "too short", ""]
    sets_a, sets_b = shingle_sets(held), shingle_sets(others)
    truth = np.array([[jaccard(a, b) for b in sets_b] for a in sets_a])
    best, where = nearest(held, [others[:20], [], others[20:]], threshold)
    for k in range(len(held)):
        if truth[k].max() >= threshold:
            assert best[k] == pytest.approx(truth[k].max()) and truth[k, where[k]] == pytest.approx(best[k])
        else:
            assert best[k] <= truth[k].max() + 1e-12
    assert (best >= threshold).any()
    assert nearest([], [others], threshold)[0].shape == (0,) and nearest(["a b"], [others], threshold)[1].tolist() == [-1]


def test_what_is_exactly_at_the_threshold_is_found_whatever_its_product_rounds_to():
    """0.55 * 20 is a little above 11."""
    words = [f"w{k}" for k in range(24)]
    long, short = " ".join(words), " ".join(words[:15])
    for held, other in ((short, long), (long, short)):
        best, where = nearest([held], [[other]], 0.55)
        assert best.tolist() == [11 / 20] and where.tolist() == [0]


def test_the_second_way_agrees_with_the_first():
    held, others = variants(6, 15), variants(6, 70)[15:]
    best, _ = nearest(held, [others], 0.5)
    value, pairs = largest_crossing(held, [others[:30], pa.array(others[30:])], 0.5)
    assert value == pytest.approx(best.max()) and pairs > 0
    assert largest_crossing(held, [["nothing like any of these words at all"]], 0.5) == (0.0, 0)


def test_both_ways_agree_on_what_a_word_is():
    """Every character of the table, in a frame of its own: five-word runs are the same sets in compiled code and in plain Python."""
    codes = [code for code in [*range(0x3000), *range(0x3000, 0x20010, 7)] if unicodedata.category(chr(code)) != "Cs"]
    texts = [" ".join(f"a{chr(code)}B" for code in codes[k : k + 40]) for k in range(0, len(codes), 40)]
    sets = shingle_sets(texts)
    assert [len(found) for found in sets] == [len(word_runs(text)) for text in texts]
    low = [text.lower().replace("ς", "σ") for text in texts]
    assert all(np.array_equal(a, b) for a, b in zip(sets, shingle_sets(low), strict=True))

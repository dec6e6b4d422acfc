from __future__ import annotations

import random

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng
from bloomery.methods.select.preselect import Preselect
from bloomery.seams import Rng

RNG = Rng((0,))
TELLING, OTHERS, BOTH = ["theorem", "lemma", "proof", "hence"], ["buy", "cheap", "offer", "click"], ["the", "of", "a", "in", "to"]


def columns(measured: int = 30):
    """300 documents, half of them telling; only some have a strength, with some wrong ones among them."""
    draw, texts, strengths = random.Random(0), [], []
    for i in range(300):
        words = (TELLING, OTHERS)[i % 2]
        texts.append(" ".join(draw.choices(words + BOTH, k=40)))
        strengths.append((0.9 if i % 2 == 0 else 0.2) + draw.uniform(-0.1, 0.1) if i < measured else np.nan)
    strengths[4], strengths[5] = strengths[5], strengths[4]
    return {"text": texts, "preselect.strength": np.array(strengths), "bytes": [len(text) for text in texts]}


def test_exact_extremes():
    strengths = np.array([0.5, np.nan, 0.1, 0.9, 0.4, np.nan, 0.8])
    low, high = Preselect(share=0.4).extremes(strengths, numpy_rng(RNG))
    assert low.tolist() == [2, 4] and high.tolist() == [6, 3]
    low, high = Preselect(share=0.01).extremes(strengths, numpy_rng(RNG))
    assert low.tolist() == [2] and high.tolist() == [3], "one at least"
    ties = [set(map(tuple, Preselect(share=0.25).extremes(np.repeat([0.0, 1.0], 20), numpy_rng(Rng((k,)))))) for k in range(2)]
    assert ties[0] != ties[1], "of equal strengths those are taken that the draw says"


def test_property_what_reads_like_the_telling_ones_is_taken():
    given = columns()
    half = sum(given["bytes"]) // 2
    found = Preselect(buckets=4096).weigh(given, half, RNG)
    telling = np.arange(300) % 2 == 0
    assert found @ given["bytes"] <= half and found[telling].mean() > 0.9 > 0.2 > found[~telling].mean()
    assert np.array_equal(found, Preselect(buckets=4096).weigh(given, half, RNG))
    renamed = {"other.column": given["preselect.strength"], "text": given["text"], "bytes": given["bytes"]}
    assert np.array_equal(Preselect(column="other.column", buckets=4096).weigh(renamed, half, RNG), found)


def test_bad_input():
    given = columns()
    with pytest.raises(BadInput, match=r"no column 'preselect.strenght'; did you mean preselect.strength"):
        Preselect(column="preselect.strenght").weigh(given, 9, RNG)
    with pytest.raises(BadInput, match="fewer than two documents have one"):
        Preselect().weigh(columns(1), 9, RNG)
    with pytest.raises(BadInput, match="all documents have the same"):
        Preselect().weigh({**given, "preselect.strength": np.ones(300)}, 9, RNG)
    with pytest.raises(BadInput, match="preselect reads the texts"):
        Preselect().weigh({key: value for key, value in given.items() if key != "text"}, 9, RNG)
    for knobs in ({"share": 0.6}, {"share": 0}, {"buckets": 1}):
        with pytest.raises(ValueError, match="must be"):
            Preselect(**knobs)

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.select.metaclip import Metaclip, expected, fitting, matches
from bloomery.seams import Rng

TEXTS = ["a cat"] * 60 + ["a dog"] * 30 + ["an owl"] * 6 + ["cat and owl"] * 4 + ["nothing"] * 10
GIVEN = {"text": TEXTS, "bytes": [10] * len(TEXTS)}
ENTRIES = ("cat", "dog", "owl")


def test_exact_matches_and_chances_by_hand():
    has = matches(["cat", "cat and owl", "x"], ENTRIES)
    assert np.concatenate(list(has.parts())).tolist() == [[True, False, False], [True, False, True], [False] * 3]
    full = matches(TEXTS, ENTRIES)
    counts = full.counts()
    assert counts.tolist() == [64, 30, 10]
    chance = expected(full, counts, 16)
    assert chance[0] == pytest.approx(16 / 64) and chance[60] == pytest.approx(16 / 30) and chance[90] == 1
    assert chance[96] == 1 and chance[-1] == 0
    assert expected(full, counts, 5)[96] == pytest.approx(1 - (1 - 5 / 64) * (1 - 5 / 10))
    cap = fitting(full, counts, np.full(len(TEXTS), 10), 400)
    assert expected(full, counts, cap).sum() * 10 == pytest.approx(400)
    assert fitting(full, counts, np.full(len(TEXTS), 10), 1e9) == 64


def test_property_kept_concepts_are_capped_and_rare_ones_are_whole():
    has = matches(TEXTS, ENTRIES)
    kept = np.array([Metaclip(ENTRIES, cap=16).weigh(GIVEN, 1e9, Rng((seed,))) for seed in range(400)])
    assert kept.mean(0) == pytest.approx(expected(has, has.counts(), 16), abs=0.1)
    histogram = kept @ np.concatenate(list(has.parts()))
    assert histogram.mean(0)[1] == pytest.approx(16, abs=1) and (histogram[:, 2] == 10).all() and not kept[:, 100:].any()
    uniform = 10 / len(TEXTS) * kept.sum(1).mean()
    assert histogram[:, 2].mean() > 1.5 * uniform, "more of the tail than a plain sample of as many documents"


def test_property_the_budget_is_kept_and_the_same_every_time():
    for budget in (0, 55, 400):
        weights = Metaclip(ENTRIES).weigh(GIVEN, budget, Rng((0,)))
        assert weights.sum() * 10 <= budget and np.array_equal(weights, Metaclip(ENTRIES).weigh(GIVEN, budget, Rng((0,))))
    assert Metaclip(ENTRIES).weigh(GIVEN, 400, Rng((0,))).sum() > 25


def test_bad_input():
    with pytest.raises(BadInput, match="name the concepts"):
        Metaclip().weigh(GIVEN, 9, Rng((0,)))
    with pytest.raises(BadInput, match="no document holds any"):
        Metaclip(("bird",)).weigh(GIVEN, 9, Rng((0,)))
    with pytest.raises(BadInput, match="metaclip reads the texts"):
        Metaclip(("cat",)).weigh({"bytes": [1]}, 9, Rng((0,)))
    with pytest.raises(ValueError, match="no entry may be empty"):
        Metaclip(("",))

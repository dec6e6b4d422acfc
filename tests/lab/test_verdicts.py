"""What follows from a comparison: exact cases, the three relations, figures that are no numbers, and how often it errs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.lab import verdicts
from bloomery.lab.verdicts import compare, judge, together, verdict

NAN = math.nan


def test_a_comparison_in_closed_form():
    found = compare("less", "bits", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], "bits", margin=0.5)
    half = 4.302652729749464 / math.sqrt(3)  # differences -1, -2, -3: standard deviation 1, t of two degrees of freedom
    assert (found.mean_ours, found.mean_baseline, found.spread_ours, found.spread_baseline) == (2, 4, 1, 2)
    assert (found.difference, found.low, found.high) == pytest.approx((-2, -2 - half, -2 + half))
    assert found.outcome == "undecided"


def test_pairing_takes_what_seeds_share_away():
    ours, baseline = [1.0, 5.0, 9.0], [1.1, 5.1, 9.1]
    assert compare("less", "x", ours, baseline).outcome == "holds"
    assert compare("less", "x", ours, [5.1, 9.1, 1.1]).outcome == "undecided"


@pytest.mark.parametrize(
    ("relation", "margin", "low", "high", "outcome"),
    [
        ("less", 0.0, -2, -1, "holds"), ("less", 0.0, -2, 1, "undecided"), ("less", 0.0, 0, 0, "refuted"),
        ("less", 1.5, -2, -1, "undecided"),
        ("less", 1.5, -1, 0, "refuted"), ("less", -0.5, -0.2, 0.4, "holds"), ("less", -0.5, 0.6, 0.7, "refuted"),
        ("more", 0.0, 1, 2, "holds"), ("more", 0.0, -1, 2, "undecided"), ("more", 0.0, -2, 0, "refuted"), ("more", -0.5, -0.4, 3, "holds"),
        ("near", 1.0, -1, 1, "holds"), ("near", 1.0, -1.1, 1, "undecided"), ("near", 1.0, 1.1, 2, "refuted"),
        ("near", 1.0, -3, -2, "refuted"),
        ("near", 0.0, 0, 0, "holds"),
    ],
)  # fmt: skip
def test_the_interval_decides(relation, margin, low, high, outcome):
    assert judge(relation, [1.0], [1.0], low, high, margin) == outcome


@pytest.mark.parametrize(("relation", "ours", "baseline", "outcome"), [
    ("less", 5, 7, "holds"), ("less", 7, 7, "refuted"), ("more", 8, 7, "holds"), ("near", 7, 7, "holds"),
    ("less", [5, 5, 5], [7, 7, 7], "holds"), ("near", [7, 7], 7, "holds"), ("less", [5], [7], "undecided"),
])  # fmt: skip
def test_exact_counts_need_no_spread_and_one_seed_decides_nothing(relation, ours, baseline, outcome):
    assert compare(relation, "bytes", ours, baseline, "bytes").outcome == outcome


@pytest.mark.parametrize("relation", ["less", "more", "near"])
@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf, None])
def test_what_is_no_number_never_holds(relation, bad):
    ours = compare(relation, "x", [bad, 1.0, 1.0], [1.0, 1.0, 1.0], margin=9.0 if relation == "near" else 0.0)
    baseline = compare(relation, "x", [1.0, 1.0, 1.0], [bad, 1.0, 1.0], margin=9.0 if relation == "near" else 0.0)
    assert (ours.outcome, baseline.outcome) == ("refuted", "undecided")
    assert json.loads(json.dumps(ours.facts(), allow_nan=False))["ours"] == [None, 1.0, 1.0]


def test_a_comparison_survives_json():
    found = compare("near", "x", [1.0, 2.0], [1.5, 2.5], "s", margin=1.0, better="lower")
    assert verdicts.read(json.loads(json.dumps(found.facts()))) == found


def test_verdicts_of_claims_and_of_files():
    assert verdict(["holds", "holds"]) == "holds"
    assert verdict(["holds", "undecided", "refuted"]) == "does not hold at this scale"
    assert verdict(["holds", "undecided"]) == verdict([]) == "undecided"
    assert together(["holds", "undecided"]) == "undecided" and together(["holds", verdicts.FAILED]) == "could not be run"


def test_wrong_arms_are_refused():
    with pytest.raises(BadInput, match="as many values"):
        compare("less", "x", [1, 2], [1, 2, 3])
    with pytest.raises(BadInput, match="must not be negative"):
        compare("near", "x", [1, 2], [1, 2], margin=-1)
    with pytest.raises(BadInput, match="the unit a word"):
        compare("near", "x", [1, 2], [1, 2], 0.5, "bits")
    with pytest.raises(BadInput, match="numbers are compared"):
        compare("less", "x", ["one", "two"], [1, 2])


def test_arms_that_are_alike_are_seldom_told_apart():
    """Where nothing differs, `less` holds in a fortieth of all cases: one end of a 95% interval."""
    drawn = np.random.default_rng(7).normal(size=(2, 3000, 4))
    held = sum(compare("less", "x", a, b).outcome == "holds" for a, b in zip(*drawn.tolist(), strict=True))
    assert abs(held / 3000 - 0.025) < 0.012

"""Thresholds chosen on one half and measured on the other."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from bloomery.num.membership import calibrated, least_likely, over_zlib, told_apart
from bloomery.seams import Rng


def drawn(seed: int, gap: float, count: int = 400) -> tuple[np.ndarray, np.ndarray, list[str]]:
    gen = np.random.default_rng(seed)
    member = np.arange(count) % 2 == 0
    return gen.normal(size=count) + gap * member, member, [str(i) for i in range(count)]


def test_the_threshold_keeps_to_the_rate_on_its_half_and_about_on_the_other() -> None:
    found = [calibrated(*drawn(seed, 0.0), 0.1, Rng((seed,))) for seed in range(60)]
    rates = [one.false.value for one in found]
    assert all(one.false.n == one.true.n == 100 for one in found)
    assert np.mean(rates) == pytest.approx(0.1, abs=0.02), "nothing to tell: as many false as stated"
    assert np.mean([one.true.value for one in found]) == pytest.approx(0.1, abs=0.02)
    inside = [one.false.low <= 0.1 <= one.false.high for one in found]
    assert np.mean(inside) > 0.7


def test_members_that_stand_out_are_caught() -> None:
    one = calibrated(*drawn(1, 4.0), 0.05, Rng((1,)))
    assert one.true.value > 0.9 and one.false.value < 0.15 and one.true.low <= one.true.value <= one.true.high
    perfect = calibrated([3.0, 3.0, 1.0, 1.0], [True, True, False, False], ["a", "b", "c", "d"], 0.0, Rng((0,)))
    assert (perfect.threshold, perfect.true.value, perfect.false.value) == (1.0, 1.0, 0.0)


def test_groups_are_never_torn_and_too_few_texts_give_no_threshold() -> None:
    score, member = np.arange(8.0), np.array([True] * 4 + [False] * 4)
    assert calibrated(score, member, ["a"] * 4 + ["b"] * 4, 0.1, Rng((0,))) is None, "a group has no half"
    found = calibrated(score, member, ["a", "a", "b", "b", "c", "c", "d", "d"], 0.0, Rng((0,)))
    assert found.true.n == found.false.n == 2 and found.threshold in (5.0, 7.0)
    with pytest.raises(ValueError, match="rate"):
        calibrated(score, member, ["a"] * 8, 1.0, Rng((0,)))


def test_a_summary_has_area_and_rates_for_every_subject() -> None:
    score, member, groups = drawn(2, 1.0)
    found = told_apart("x", {"": score, "chance": drawn(3, 0.0)[0]}, member, groups, 0.05, Rng((0,)))
    assert {f"x_{what}{of}" for what in ("auc", "true_positives", "false_positives") for of in ("", "@chance")} <= found.keys()
    assert found["x_auc"] > 0.7 and 0.4 < found["x_auc@chance"] < 0.6 and found["x_auc.low"] < found["x_auc"] < found["x_auc.high"]
    assert found == told_apart("x", {"": score, "chance": drawn(3, 0.0)[0]}, member, groups, 0.05, Rng((0,)))


def test_scores_by_hand() -> None:
    assert least_likely([-1.0, -5.0, -3.0], 0.67) == -4 and least_likely([-1.0, -5.0], 0.01) == -5
    assert over_zlib([-1.0, -3.0], "text") == -2 / len(zlib.compress(b"text"))

"""Targets, budgets, the moment of reaching one, and the order of methods."""

from __future__ import annotations

import json
import math

import pytest

from bloomery.core.errors import BadInput
from bloomery.lab.standings import Ended, Target, points, ranking, read_budget, read_target, settings

LOSS = Target(limit=2.0)


def test_targets() -> None:
    assert read_target("loss<=2.1") == Target("heldout_nats", "nats per token", 2.1)
    assert read_target(" bits <= 1.9 ") == Target("heldout_bpb", "bits per byte", 1.9)
    assert read_target("bits").limit is None and str(read_target("loss<=2.10")) == "loss<=2.1"
    for text in ("", "loss<2", "loss>=2", "loss<=", "loss<=x", "loss<=-1", "loss<=nan", "loss<=inf", "<=2", "los<=2", "loss<=2<=3"):
        with pytest.raises(BadInput, match=r"loss<=2\.1"):
            read_target(text)


def test_budgets() -> None:
    assert [read_budget(text) for text in ("90s", "30m", "2h", "1h30m", "45", "1.5m", "")] == [90, 1800, 7200, 5400, 45, 90, math.inf]
    for text in ("soon", "3x", "0", "-5m", "m", "5 m x"):
        with pytest.raises(BadInput, match="--budget"):
            read_budget(text)


def test_seconds_are_steps_at_a_pace_and_never_those_of_the_curve(tmp_path) -> None:
    rows = [
        {"tokens": 100, "tokens_per_second": 50.0, "seconds": 9.0},
        {"tokens": 200, "tokens_per_second": 100.0, "seconds": 30.0, "heldout_nats": 3.0},
        {"tokens": 300, "tokens_per_second": 200.0, "seconds": 60.0, "heldout_nats": 2.0, "heldout_bpb": 1.0},
    ]
    (tmp_path / "curve.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert points(tmp_path / "curve.jsonl", "heldout_nats", 0.25) == [(200, 0.5, 3.0), (300, 0.75, 2.0)]
    assert points(tmp_path / "curve.jsonl", "heldout_bpb", None) == [(300, None, 1.0)]


def ended(method: str, place: int, *measured: tuple[float, float, float], failed: str = "") -> Ended:
    return Ended(method, place, {"rate": 0.1 * (place + 1)}, "made", failed, list(measured))


def test_the_first_measurement_at_or_below_the_target_counts() -> None:
    one = ended("a", 0, (10, 1, 3.0), (20, 2, 2.0), (30, 3, 2.5))
    assert one.reached(LOSS) == {"tokens": 20, "seconds": 2} and one.final == 2.5
    assert one.reached(Target(limit=1.9)) is None and one.reached(Target()) is None


def test_methods_in_order() -> None:
    """Reaching the target comes before a low end; the best trial counts, and the median is told."""
    trials = [
        ended("slow", 0, (10, 9, 2.0)), ended("slow", 1, (10, 8, 1.0)),
        ended("near", 0, (10, 1, 2.1)), ended("near", 1, (10, 1, 5.0)), ended("near", 2, failed="diverged"),
        ended("fast", 0, (30, 2, 1.9)), ended("fast", 1, (10, 1, 9.0)),
        ended("broken", 0, failed="diverged"),
    ]  # fmt: skip
    rows = ranking(trials, LOSS, "seconds")
    assert [(row["rank"], row["method"], row["reached"], row["failed"]) for row in rows] == [
        (1, "fast", 1, 0), (2, "slow", 2, 0), (3, "near", 0, 1), (4, "broken", 0, 1),
    ]  # fmt: skip
    assert rows[0]["best"]["trial"] == 0 and rows[0]["median"]["trial"] == 1, "of two, the median is the worse"
    assert rows[1]["best"]["trial"] == 1 and rows[2]["median"]["trial"] == 1
    assert [row["method"] for row in ranking(trials, LOSS, "tokens")][:2] == ["slow", "fast"]
    assert [row["method"] for row in ranking(trials, Target(), "seconds")] == ["slow", "fast", "near", "broken"]
    assert json.dumps(rows)


def test_equal_amounts_are_settled_by_the_lower_end_whatever_was_named_first() -> None:
    lower, higher = (ended(name, 1, (100, 9, end)) for name, end in (("lower", 1.5), ("higher", 1.8)))
    early = ended("lower", 0, (100, 9, 1.9))
    for trials in ([lower, early, higher], [higher, early, lower]):
        rows = ranking(trials, LOSS, "tokens")
        assert [(row["rank"], row["method"], row["best"]["trial"]) for row in rows] == [(1, "lower", 1), (2, "higher", 1)]


def test_methods_that_tie_share_a_rank() -> None:
    """Neither the order in which they were named nor the number of the trial puts one before the other."""
    trials = [ended("last", 0, (100, 9, 1.9)), ended("a", 0, (100, 9, 1.5)), ended("b", 0, (200, 9, 1.5)), ended("b", 1, (100, 9, 1.5))]
    assert [(row["rank"], row["method"]) for row in ranking(trials, LOSS, "tokens")] == [(1, "a"), (1, "b"), (3, "last")]
    assert [row["rank"] for row in ranking([ended("a", 0, failed="x"), ended("b", 0, failed="y")], LOSS, "seconds")] == [1, 1]


def test_without_seconds_a_trial_that_reaches_the_target_comes_after_those_that_have_them() -> None:
    trials = [ended("untimed", 0, (10, None, 1.0)), ended("timed", 0, (900, 99.0, 2.0)), ended("far", 0, (10, 1.0, 2.5))]
    rows = ranking(trials, LOSS, "seconds")
    assert [row["method"] for row in rows] == ["timed", "untimed", "far"] and rows[1]["best"]["seconds_to_target"] is None


def test_settings_in_a_line() -> None:
    assert settings({"rate": 0.0030000001, "kind": "a"}) == "rate 0.003, kind a"

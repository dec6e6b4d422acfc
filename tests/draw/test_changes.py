"""Paired differences: which way, against which before, and models side by side."""

from __future__ import annotations

import pytest

from bloomery.draw.changes import charts, comparison, pairs
from bloomery.draw.intervals import Change, verdict
from bloomery.draw.scores import contests, headline_contest, is_main, results
from bloomery.draw.training import levels


def row(metric, subject, value, low=None, high=None, task="t", **more):
    return {
        "task": task,
        "metric": metric,
        "subject": subject,
        "value": value,
        "low": low,
        "high": high,
        "unit": "nats/token",
        "better": "lower",
        **more,
    }


ROWS = [
    row("nats", "model", 1.6), row("nats", "before", 4.2), row("nats", "before, plain text", 2.6),
    row("nats_change", "model", -2.6, -2.7, -2.5), row("nats_change_from_plain_text", "model", -1.0, -1.1, -0.9),
    row("exact_change", "model", 0.2, -0.1, 0.5, unit="share", better="higher"),
]  # fmt: skip


@pytest.mark.parametrize(
    "low, high, better, tone",
    [(-2, -1, "lower", "gain"), (-2, -1, "higher", "loss"), (1, 2, "higher", "gain"), (-1, 1, "lower", "even"), (1, 2, "", "even")],
)
def test_verdict_needs_the_whole_interval(low, high, better, tone):
    assert verdict(Change("a", (low + high) / 2, low, high), better) == tone


def test_pairs_are_with_the_strongest_before():
    (one,) = pairs(ROWS)
    assert (one.before, one.after, one.shown, one.ends) == ("2.60", "1.60", "−1.00", "−1.10 to −0.90")
    assert not pairs(ROWS[3:]) and pairs(ROWS[:2] + ROWS[3:4])[0].before == "4.20"


def test_one_metric_of_two_tasks_is_two_measures():
    several = [row("acc", "model", 0.5, task=task) for task in ("lm_eval.quiz", "lm_eval.riddles")] + [row("acc", "before", 0.25, task="x")]
    assert [r["metric"] for r in comparison([("a", several), ("b", several)])["rows"]] == ["quiz: acc", "riddles: acc"]
    (lone,) = comparison([("a", several[:1]), ("b", several[:1])])["rows"]
    assert lone["metric"] == "quiz: acc", "no metric of lm-eval tells its task"
    twice = [dict(one, task=task) for task in ("needle", "needle_2") for one in ROWS]
    assert len(pairs(twice)) == 2


def test_a_chart_for_each_unit():
    found = charts(ROWS)
    assert [c["name"] for c in found] == ["Change in nats/token", "Change in percentage points"]
    assert "2 better" in found[0]["note"] and "1 undecided" in found[1]["note"] and "+20.0\u202fpoints" in found[1]["chart"]
    assert "2.60 in plain text → 1.60" in found[0]["chart"] and "← better" in found[0]["chart"] and "better →" in found[1]["chart"]
    assert charts([]) == [] and charts([row("nats_change", "model", None)]) == []


def test_before_is_neither_main_nor_drawn_against_itself():
    assert not is_main(ROWS[1]) and results(ROWS)["charts"] == []
    bits = [row("bits_per_byte", s, v) for s, v in (("model", 1.9), ("before", 1.8), ("gzip -9", 2.4))]
    assert headline_contest(contests(bits)).best(main=True)["value"] == 1.9 and levels(bits) == [("gzip -9", 2.4)]
    assert "−2.60" in str(results(ROWS)["rows"])


def test_models_side_by_side():
    other = [row("nats", "model", 1.7, 1.6, 1.8), row("speed", "model", 9)]
    found = comparison([("tuned", ROWS), ("packed", other), ("third", [])])
    assert found["heads"] == ["tuned", "packed", "third"] and [r["metric"] for r in found["rows"]] == ["nats"]
    assert [c["value"] for c in found["rows"][0]["cells"]] == ["1.60", "1.70", "–"]
    assert comparison([("a", ROWS), ("b", [])]) is None

"""A step's seconds: runs in turns, medians that leave out what came from outside, and what methods do now and then kept in."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bloomery.core import catalog
from bloomery.lab import timing
from bloomery.lab.timing import alone, forecast, pace, short, steps_of


def test_methods_are_timed_one_after_the_other_in_turns() -> None:
    seen = []

    def timed_run(method):
        seen.append(method)
        return {"a": [1.0, 3.0], "b": [], "c": [2.0, 2.0]}[method]

    found = alone({name: name for name in "abc"}, timed_run)
    assert "".join(seen) == "abc" * timing.TURNS
    assert set(found) == {"a", "c"}, "what gives no step has no pace"
    assert found["a"].seconds == found["c"].seconds == 2.0


def test_a_disturbed_step_is_left_out_and_rare_work_is_not() -> None:
    """Each turn is disturbed at another step; every turn does more work at its last one."""
    quiet = [1.0, 1.0, 1.0, 5.0]
    turns = [[*quiet[:i], 100.0, *quiet[i + 1 :]] for i in range(3)]
    assert pace(turns).seconds == 2.0
    assert pace([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]) == timing.Pace(2.0, 1.0, 4.0)
    assert json.dumps(pace(turns).told())


def test_the_short_run_is_the_same_one_with_few_steps() -> None:
    stage = catalog.entries("stage")["pretrain"].load()(data=None, width=32, heads=2, context=32, batch=100, tokens=10**7, compile="off")
    one = short(stage)
    assert one.tokens == timing.STEPS * 96 and one.evaluate_every > timing.STEPS and one.mode() == stage.mode()
    assert (one.width, one.batch, one.rate, one.optimizer) == (stage.width, stage.batch, stage.rate, stage.optimizer)


def test_the_short_run_is_compiled_if_the_whole_one_is(monkeypatch) -> None:
    """`auto` looks at the length, which would decide otherwise for few steps."""
    given = {}
    monkeypatch.setattr(timing, "replace", lambda stage, **knobs: given.update(knobs))
    for compiled, wish in ((True, "on"), (False, "off")):
        short(SimpleNamespace(mode=lambda compiled=compiled: {"compile": compiled}, rows=1, context=16))
        assert given["compile"] == wish


def test_steps_of_a_curve(tmp_path) -> None:
    rows = [{"tokens": 100, "tokens_per_second": 50.0, "seconds": 9.0}, {"tokens": 300, "tokens_per_second": 100.0, "seconds": 99.0}]
    (tmp_path / "curve.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert steps_of(tmp_path / "curve.jsonl") == [2.0, 2.0]


def test_the_forecast_grows_with_the_methods_and_with_their_steps() -> None:
    one = forecast({"a": 10.0}, timing.STEPS)
    assert one == pytest.approx(timing.TURNS * (timing.START + 10))
    assert forecast({"a": 10.0, "b": 10.0}, timing.STEPS) == pytest.approx(2 * one) and forecast({"a": 10.0}, 10 * timing.STEPS) < one
    assert forecast({}, 100) == 0

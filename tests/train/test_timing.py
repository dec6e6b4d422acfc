"""Seconds of operations: each tried once and remembered, the large ones counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from bloomery.core.speeds import Speeds
from bloomery.train import timing
from bloomery.train.tracing import tracing

RATES = {"matmul_flops": {"float32": 1e10}, "bandwidth": 1e9}


def calls(work) -> Counter:
    with tracing() as trace:
        work()
    return trace.calls


def test_each_kind_and_shape_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(timing, "timed", lambda func, args, kwargs: tried.append(str(func)) or 1.0)
    monkeypatch.setattr(timing, "overhead", lambda: 0.0)
    seen = calls(lambda: [torch.ones(8, 8) @ torch.ones(8, 8) + 1 for _ in range(3)])
    speeds = Speeds(tmp_path / "speeds.json")
    first = timing.seconds(seen, speeds, **RATES)
    assert first["products"] == 3.0 and tried.count("aten.mm.default") == 1
    speeds.write()
    count = len(tried)
    assert timing.seconds(seen, Speeds(tmp_path / "speeds.json"), **RATES) == first and len(tried) == count


def test_large_ones_are_counted_from_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "timed", lambda *_: pytest.fail("it was tried"))
    monkeypatch.setattr(timing, "overhead", lambda: 0.0)
    with tracing() as trace:
        a = torch.empty(4096, 4096)
        trace.calls.clear()
        a @ a
    assert timing.seconds(trace.calls, Speeds(), **RATES)["products"] == 2 * 4096**3 / 1e10
    with tracing() as trace:
        a = torch.empty(1 << 27)
        trace.calls.clear()
        a * 2
    assert timing.seconds(trace.calls, Speeds(), **RATES)["others"] == pytest.approx(2 * 4 * 2**27 / 1e9, rel=1e-6)


def test_real_operations_take_some_time_and_impossible_ones_none() -> None:
    torch.set_num_threads(1)
    spec = ("t", torch.float32, (64, 64), (64, 1))
    assert 0 < timing.timed(torch.ops.aten.mm.default, (spec, spec), {}) < 0.1
    assert timing.timed(torch.ops.aten.mm.default, (spec, ("t", torch.float32, (3, 3), (3, 1))), {}) == 0.0
    assert 0 <= timing.overhead() < 1e-3


def test_numbers_are_kept_and_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "speeds.json"
    one = Speeds(path)
    assert one.of("a", lambda: 2.5) == 2.5 and one.of("a", lambda: pytest.fail("again")) == 2.5
    one.write()
    assert Speeds(path).known == {"a": 2.5}
    path.write_text("{")
    assert Speeds(path).known == {}

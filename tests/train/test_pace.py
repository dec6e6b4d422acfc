"""The slow one among many is named with its lag; nobody is where all are slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.train import pace
from bloomery.train.pace import LEAST, TIMES, Pace, lag


def test_the_slowest_rank_is_named_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    one, now = Pace(), [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    laps = [(0.2, 0.0), (5.2, 0.0), (0.3, 0.0)]
    assert one.told(9, laps) == "step 9: rank 1 is slow, 4.9 s behind the others, 94% of its step"
    assert one.told(10, laps) == ""
    now[0] += 61
    assert "step 11: rank 1" in one.told(11, laps)
    assert (
        one.told(12, [(0.2, 5.0), (0.2, 0.0), (0.2, 0.0)])
        == "step 12: rank 0 is slow, 5.0 s behind the others, 100% of its step, of which it stood still for 5.0"
    )


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=8))
def test_nobody_is_named_where_all_take_about_as_long(laps: list[float]) -> None:
    told = Pace().told(1, [(one, 0.0) for one in laps])
    lags = [lag([(one, 0.0) for one in laps], rank) for rank in range(len(laps))]
    assert bool(told) == (max(lags) >= LEAST)
    if max(laps) <= TIMES * min(laps):
        assert told == ""


def test_waiting_is_not_work_and_the_first_lap_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pace.threading.Thread, "start", lambda self: None)
    one = Pace()
    now[0] = 9.0
    assert one.lap() == (0.0, 0.0)
    now[0] = 10.0
    with one.waiting():
        now[0] = 17.0
    now[0] = 17.5
    assert one.lap() == (1.5, 0.0) and one.lap() == (0.0, 0.0)


CODE = """
import time
from bloomery.train.pace import Pace
one = Pace(); one.lap()
time.sleep(0.6); one.lap()
print("ready", flush=True)
time.sleep(3.0)
print(one.lap()[1], flush=True)
"""


def test_a_process_that_was_stopped_knows_for_how_long() -> None:
    process = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(2.0)
        os.kill(process.pid, signal.SIGCONT)
        assert float(process.stdout.readline()) > 1.2
    finally:
        process.kill()
        process.wait()

"""The reflected exponential: its closed form, and its place above a straight line."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bloomery.methods.schedule.rex import Rex
from bloomery.seams import Clock


def course(schedule: Rex, steps: int = 100) -> list[float]:
    return [schedule.value(Clock(i, i * 10, 10, steps * 10.0)) for i in range(steps)]


def test_closed_form() -> None:
    """1 at the beginning, 2/3 half way, 0 at the end: (1 - x) / (1/2 + (1 - x) / 2)."""
    values = course(Rex(warmup=0.0))
    assert values[0] == 1.0 and values[50] == pytest.approx(2 / 3)
    assert values == pytest.approx([(1 - i / 100) / (0.5 + 0.5 * (1 - i / 100)) for i in range(100)])
    assert Rex(warmup=0.0).value(Clock(100, 1000, 10, 1000.0)) == 0.0


def test_it_stays_above_a_line_and_falls_ever_faster() -> None:
    values = course(Rex(warmup=0.1))
    assert all(a < b for a, b in pairwise(values[:10])) and all(a > b for a, b in pairwise(values[10:]))
    plain = course(Rex(warmup=0.0))
    assert all(value > 1 - i / 100 for i, value in enumerate(plain) if i)
    falls = [a - b for a, b in pairwise(plain)]
    assert all(a < b for a, b in pairwise(falls))


def test_open_end_and_bad_knobs() -> None:
    assert Rex().value(Clock(5, 50, 10, None)) == 1.0
    with pytest.raises(ValueError, match="below 1"):
        Rex(warmup=1.0)

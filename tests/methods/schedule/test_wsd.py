"""Warm-up, stay, decay: closed forms and shape."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bloomery.methods.schedule.constant import Constant
from bloomery.methods.schedule.wsd import Wsd
from bloomery.seams import Clock


def course(schedule: Wsd, steps: int = 100) -> list[float]:
    return [schedule.value(Clock(i, i * 10, 10, steps * 10.0)) for i in range(steps)]


def test_closed_form() -> None:
    values = course(Wsd(warmup=0.1, decay=0.2))
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10:81] == [1.0] * 71
    assert values[80:] == pytest.approx([(100 - i) / 20 for i in range(80, 100)])


@pytest.mark.parametrize("shape", ["linear", "sqrt", "cosine"])
def test_rises_stays_and_falls_and_is_never_zero(shape: str) -> None:
    values = course(Wsd(warmup=0.05, decay=0.5, shape=shape))
    assert all(a <= b for a, b in pairwise(values[:51]))
    assert all(a >= b for a, b in pairwise(values[50:]))
    assert min(values) > 0 and max(values) == 1


def test_floor_open_end_and_bad_knobs() -> None:
    assert course(Wsd(decay=1.0, warmup=0.0, floor=0.25))[-1] == pytest.approx(0.25 + 0.75 * 0.01)
    assert Wsd().value(Clock(5, 50, 10, None)) == 1.0
    with pytest.raises(ValueError, match="exceed"):
        Wsd(warmup=0.6, decay=0.6)
    with pytest.raises(ValueError, match="between"):
        Wsd(warmup=-0.1)


def test_constant_is_constant() -> None:
    assert {Constant(0.3).value(Clock(i, i, 1, t)) for i in range(5) for t in (None, 10.0)} == {0.3}
    assert Constant().value(Clock(0, 0, 1, None)) == 1.0

"""The constant schedule."""

from __future__ import annotations

import pytest

from bloomery.methods.schedule.constant import Constant
from bloomery.seams import Clock


def test_exact_the_level_at_every_step():
    assert [Constant(0.3).value(Clock(step, step * 10, 10, 1000.0)) for step in (0, 1, 99, 100)] == [0.3] * 4


def test_property_it_does_not_depend_on_the_clock():
    assert Constant().value(Clock(0, 0, 1, None)) == Constant().value(Clock(5, 50, 10, 50.0, {"loss": 3.0})) == 1.0


def test_it_refuses_a_negative_level():
    with pytest.raises(ValueError, match="level"):
        Constant(-1.0)

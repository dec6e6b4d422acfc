"""Superpipeline's knobs. tests/train/test_window.py compares its numbers with those of a model that is in memory whole."""

from __future__ import annotations

import pytest
from torch import nn

from bloomery.methods.parallel.superpipeline import Superpipeline


@pytest.mark.parametrize(("resident", "together"), [(0, 0), (2, 0), (2, 3), (-1, 1)])
def test_no_more_leave_than_are_there(resident: int, together: int) -> None:
    with pytest.raises(ValueError, match=f"together must be at least 1 and at most resident, got {together} and {resident}"):
        Superpipeline(resident, together)


def test_all_lies_on_the_disk_and_the_model_stays_as_it_is() -> None:
    net = nn.Linear(2, 2)
    assert Superpipeline().place(net, None) is net and Superpipeline().unfit(None, 0, {}) == "" and Superpipeline.exact
    assert Superpipeline(2, 1).pieces(9) == [(0, 9, "disk", "host")]

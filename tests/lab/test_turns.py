"""Turns of a pipeline over orders that are written by hand."""

from __future__ import annotations

import pytest

from bloomery.lab.turns import idle, kept, passes

ORDER = {0: ["0F0", "0F1", None, "0B0", "0B1"], 1: [None, "1F0", "1B0", "1F1", "1B1"]}
LAST = {"F": 1.0, "B": 1.0}


def test_ranks_wait_for_what_comes_from_the_others() -> None:
    """The second begins a turn later and does four, the last of which the first waits for: six turns for four of work."""
    assert passes(ORDER[0]) == [(0, "F", 0), (0, "F", 1), (0, "B", 0), (0, "B", 1)]
    assert idle(ORDER, 2, LAST) == pytest.approx(6 / 4 - 1)
    assert idle({0: ["0F0", "0B0"]}, 1, LAST) == 0


def test_what_is_kept_has_gone_forward_and_not_back() -> None:
    assert [kept(passes(ORDER[rank])) for rank in ORDER] == [[0, 1, 2, 1, 0], [0, 1, 0, 1, 0]]


def test_an_order_that_never_ends_is_told() -> None:
    with pytest.raises(AssertionError, match="the ranks wait for each other"):
        idle({0: ["0B0", "0F0"]}, 1, LAST)

"""What one player writes after another: equal, odd, or a near tie."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from bloomery.infer.hops import parted
from bloomery.infer.players import END

ENDS = frozenset({9})


def player(written: list[int], row: list[float] | None = None) -> SimpleNamespace:
    """Writes `written` after any prompt; its last logits are `row`."""
    return SimpleNamespace(greedy=lambda prompt, limit: written[:limit], logits=lambda ids: torch.tensor([row or [0.0] * 10]))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([1, 2, 3], [1, 2, 3]), ([1, 9, 5], [1, 9]), ([1, 9, 5], [1, END]), ([1, 2, 9], [1, 2, 9, 4])],
)
def test_the_same_up_to_the_end_is_the_same_whichever_way_the_end_is_told(ours: list[int], theirs: list[int]) -> None:
    assert parted(player(ours), [0], theirs, 8, ENDS) is None


def test_another_token_costs_what_the_reference_prefers_its_own_by() -> None:
    row = [0.0, 0.5, 3.0, 2.75, 0, 0, 0, 0, 0, 1.0]
    assert parted(player([1, 2], row), [0], [1, 3], 8, ENDS) == pytest.approx(0.25)
    assert parted(player([1, 2], row), [0], [1, END], 8, ENDS) == pytest.approx(2.0), "ending is token 9, which the reference gives 1.0"


def test_stopping_short_without_an_end_is_odd() -> None:
    assert parted(player([1, 2, 3]), [0], [1, 2], 8, ENDS) == math.inf
    assert parted(player([1, 2]), [0], [1, 2, 3], 8, ENDS) == math.inf

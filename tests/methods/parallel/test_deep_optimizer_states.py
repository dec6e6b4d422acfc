"""Interleaved pieces: each number once, every so many on the device. tests/train/test_offload.py compares the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.methods.parallel.deep_optimizer_states import DeepOptimizerStates


@given(st.integers(1, 1000), st.integers(1, 300), st.integers(1, 5))
def test_pieces_cover_every_number_once(numbers: int, piece: int, every: int) -> None:
    found = DeepOptimizerStates(piece, every).pieces(numbers)
    assert [i for start, stop, _, _ in found for i in range(start, stop)] == list(range(numbers))
    assert {place for _, _, place, _ in found} == {"host"}


def test_every_second_piece_is_the_devices() -> None:
    workers = [worker for _, _, _, worker in DeepOptimizerStates(10, 2).pieces(45)]
    assert workers == ["device", "host", "device", "host", "device"]
    assert {worker for _, _, _, worker in DeepOptimizerStates(10, 1).pieces(45)} == {"device"}
    with pytest.raises(ValueError, match="piece and every must be at least 1"):
        DeepOptimizerStates(0)

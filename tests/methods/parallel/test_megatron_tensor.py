"""Tensor parallelism: each rank gets a part of every fused matrix. tests/train/test_mesh.py compares its numbers with one process."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.methods.parallel.megatron_tensor import MegatronTensor, interleaved
from bloomery.nn.config import Config


@given(st.integers(1, 4), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_each_rank_has_its_part_of_every_matrix(n: int, units: list[int]) -> None:
    parts = [n * each for each in units]
    order = interleaved(parts, n)
    assert torch.equal(order.sort().values, torch.arange(sum(parts)))
    starts = [sum(parts[:i]) for i in range(len(parts))]
    for rank, rows in enumerate(order.chunk(n)):
        for start, each, got in zip(starts, units, rows.split(units), strict=True):
            assert torch.equal(got, torch.arange(start + rank * each, start + (rank + 1) * each))


@pytest.mark.parametrize(
    ("more", "n", "said"),
    [
        ({}, 2, ""),
        ({}, 4, "tensor 4 does not divide 2 key heads"),
        ({}, 3, "tensor 3 does not divide 4 heads"),
        ({"qk_norm": True}, 2, "tensor cuts plain blocks, and this model has norms of queries and keys"),
        ({"positions": "alibi"}, 2, "tensor cuts plain blocks, and this model has alibi positions"),
    ],
)
def test_what_cannot_be_cut_is_refused(more: dict, n: int, said: str) -> None:
    assert MegatronTensor().unfit(Config(50, 16, 2, 4, 2, 24, 16, **more), 16, {"tensor": n, "context": 1, "pipeline": 1}) == said

"""The smallest weights go, of each matrix, row or group."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bloomery.methods.compress.magnitude import Magnitude
from bloomery.nn.sparse import Sparse


def linear(rows: int = 6, columns: int = 16, seed: int = 0) -> nn.Linear:
    unit = nn.Linear(columns, rows)
    unit.weight.data = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return unit


@pytest.mark.parametrize("over", ["matrix", "row"])
@pytest.mark.parametrize("zeros", [0.25, 0.5, 0.9])
def test_none_that_went_is_larger_than_one_that_stayed(over, zeros):
    unit = linear()
    small = Magnitude(zeros, over=over).solve(unit, {}, {}, None, None)
    stayed = small.weight != 0
    parts = [(unit.weight, stayed)] if over == "matrix" else list(zip(unit.weight, stayed, strict=True))
    for w, stay in parts:
        assert int(stay.sum()) == w.numel() - round(zeros * w.numel())
        assert w[~stay].abs().max() <= w[stay].abs().min()
    assert small.weight[stayed].equal(unit.weight[stayed].half().float()) and small.bias.equal(unit.bias)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 20), st.sampled_from([(1, 2), (2, 4), (4, 8), (1, 4)]), st.integers(0, 99))
def test_a_pattern_holds_in_every_group(rows, columns, pattern, seed):
    n, m = pattern
    small = Magnitude(pattern=f"{n}:{m}").solve(linear(rows, columns, seed), {}, {}, None, None)
    assert isinstance(small.packed, Sparse) and small.packed.pattern == f"{n}:{m}"
    for group in (small.weight != 0).split(m, dim=1):
        assert bool((group.sum(1) == min(n, group.shape[1])).all())


@pytest.mark.parametrize("knobs", [{"zeros": 0.0}, {"zeros": 1.0}, {"pattern": "4:2"}, {"pattern": "half"}])
def test_knobs_out_of_range(knobs):
    with pytest.raises(ValueError, match="must be"):
        Magnitude(**knobs)

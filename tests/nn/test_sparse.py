"""Masks and values: what is stored is what was there, and damage is refused."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import BadInput
from bloomery.nn.sparse import Sparse, take


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 19), st.floats(0, 1), st.integers(0, 99))
def test_there_and_back(rows, columns, share, seed):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, columns, generator=g) * (torch.rand(rows, columns, generator=g) > share)
    one = Sparse.of(w, "2:4", "wanda")
    assert one.dense().equal(w.half().float()) and one.shape == (rows, columns)
    state = {f"a.{part}": t for part, t in one.tensors().items()}
    assert one.bytes == sum(t.nbytes for t in state.values())
    back = take("a", json.loads(json.dumps(one.about())), state, "here")
    assert not state and back.dense().equal(one.dense()) and (back.pattern, back.method) == ("2:4", "wanda")


def test_half_of_the_weights_take_nine_bits_each():
    one = Sparse.of(torch.eye(64).repeat(1, 1) + torch.eye(64).roll(1, 0))
    assert one.zeros == pytest.approx(1 - 2 / 64) and one.bits == pytest.approx(1 + 16 * 2 / 64)


def test_damage_is_refused():
    one = Sparse.of(torch.randn(4, 9))
    for part, t in (
        ("mask", torch.zeros(4, 1, dtype=torch.uint8)),
        ("values", torch.ones(3).half()),
        ("values", torch.ones(36)),
        ("mask", None),
    ):
        state = {f"a.{name}": other for name, other in one.tensors().items()}
        state |= {f"a.{part}": t} if t is not None else {}
        if t is None:
            del state["a.mask"]
        with pytest.raises(BadInput, match="here: its mask"):
            take("a", one.about(), state, "here")
    bad = {"a.mask": one.tensors()["mask"], "a.values": torch.full((36,), float("nan")).half()}
    with pytest.raises(BadInput, match="not finite"):
        take("a", one.about(), bad, "here")
    with pytest.raises(BadInput, match="make no sense"):
        take("a", {"rows": 0, "columns": 9}, {}, "here")
    with pytest.raises(BadInput, match="beyond float16"):
        Sparse.of(torch.full((2, 2), 1e6))

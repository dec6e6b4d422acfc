"""TokenRing: parts of what a query sees may be put together in any order. Its numbers are compared in tests/train/test_mesh.py."""

from __future__ import annotations

from functools import reduce

import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.methods.parallel.token_ring import TokenRing, merged, seen_of
from bloomery.nn.config import Config


@given(st.permutations(range(4)), st.integers(0, 2**16))
def test_parts_make_the_whole_in_any_order(order: list[int], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 1, rows, 3, generator=draw) for rows in (2, 8, 8))
    mask = torch.rand(1, 2, 8, generator=draw) < 0.5
    mask[:, :, 5] = True  # each query sees something, but not of every part
    whole = torch.softmax((q @ k.transpose(2, 3)).masked_fill(~mask[:, None], float("-inf")), -1) @ v
    parts = [seen_of(q, k[:, :, 2 * i : 2 * i + 2], v[:, :, 2 * i : 2 * i + 2], mask[:, :, 2 * i : 2 * i + 2]) for i in order]
    out, log = reduce(merged, parts)
    assert torch.allclose(out, whole, atol=1e-5) and log.isfinite().all()


def test_what_cannot_go_round_is_refused() -> None:
    cfg, capped = Config(50, 16, 2, 4, 2, 24, 16), Config(50, 16, 2, 4, 2, 24, 16, score_cap=30.0)
    assert TokenRing().unfit(cfg, 15, {"context": 3}) == "" and "caps" in TokenRing().unfit(capped, 15, {"context": 3})
    assert "does not divide rows of 16 tokens" in TokenRing().unfit(cfg, 16, {"context": 3})

"""Ring attention: what a stretch may see is what whole rows may see. tests/train/test_mesh.py compares its numbers with one process."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.methods.parallel.ring import Ring
from bloomery.nn.attention import visible
from bloomery.nn.config import Config
from bloomery.num.stretches import Seen


@given(st.integers(1, 4), st.integers(1, 6), st.booleans(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_stretches_see_what_whole_rows_see(n: int, t: int, causal: bool, window: int, draw) -> None:
    """`visible` is what attention of one process asks; blocks that are left out are those of which nothing is seen."""
    documents = torch.tensor([sorted(draw.randint(0, 2) for _ in range(n * t)) for _ in range(2)], dtype=torch.int32)
    whole = visible(documents, 0, n * t, torch.device("cpu"), window, causal, slice(0, n * t))
    for own in range(n):
        seen = Seen(documents, t, own, causal, window)
        for of in range(n):
            block = whole[:, own * t : (own + 1) * t, of * t : (of + 1) * t]
            found = seen(of)
            assert torch.equal(block, found) if found is not None else not block.any()


def test_what_cannot_go_round_is_refused() -> None:
    cfg, capped = Config(50, 16, 2, 4, 2, 24, 16), Config(50, 16, 2, 4, 2, 24, 16, score_cap=30.0)
    sizes = {"context": 3}
    assert Ring().unfit(cfg, 15, sizes) == "" and "caps" in Ring().unfit(capped, 15, sizes)
    assert "does not divide rows of 16 tokens" in Ring().unfit(cfg, 16, sizes)
    assert "alibi positions need them whole" in Ring().unfit(Config(50, 16, 2, 4, 2, 24, 16, positions="alibi"), 15, sizes)

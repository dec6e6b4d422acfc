"""ByteScale: documents within a stretch are nobody else's. Its numbers and bytes are compared in tests/train/test_mesh.py."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.methods.parallel.bytescale import Bytescale, wanted
from bloomery.nn.attention import visible
from bloomery.nn.config import Config
from bloomery.num.stretches import Seen


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 5), st.randoms(use_true_random=False))
def test_keys_go_to_those_who_see_them(n: int, t: int, window: int, draw) -> None:
    documents = torch.tensor([sorted(draw.randint(0, 2) for _ in range(n * t))], dtype=torch.int32)
    documents[:, n * t - draw.randint(0, t) :] = -1
    whole = visible(documents, 0, n * t, torch.device("cpu"), window, True, slice(0, n * t))
    seen = Seen(documents, t, 0, True, window)
    for queries in range(n):
        for keys in range(n):
            block = whole[:, queries * t : (queries + 1) * t, keys * t : (keys + 1) * t]
            there = documents[:, keys * t : (keys + 1) * t] >= 0
            assert torch.equal(wanted(seen, queries, keys), block.any(1) & there & (queries != keys))


def test_short_documents_are_not_sent() -> None:
    documents = torch.tensor([[0, 0, 1, 1, 2, 2]], dtype=torch.int32)
    seen = Seen(documents, 2, 0, True, 0)
    assert not any(wanted(seen, i, j).any() for i in range(3) for j in range(3))
    assert wanted(Seen(documents, 3, 0, True, 0), 1, 0).tolist() == [[False, False, True]]


def test_what_cannot_be_asked_for_is_refused() -> None:
    cfg, capped = Config(50, 16, 2, 4, 2, 24, 16), Config(50, 16, 2, 4, 2, 24, 16, score_cap=30.0)
    assert Bytescale().unfit(cfg, 15, {"context": 3}) == "" and "caps" in Bytescale().unfit(capped, 15, {"context": 3})
    assert "does not divide rows of 16 tokens" in Bytescale().unfit(cfg, 16, {"context": 3})

"""Ulysses: what it cannot divide is refused. Its numbers are compared with one process in tests/train/test_mesh.py."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from bloomery.methods.parallel.ulysses import Ulysses, to_heads, to_tokens
from bloomery.nn.config import Config


@pytest.mark.parametrize(
    ("heads", "keys", "row", "n", "said"),
    [
        (4, 2, 16, 2, ""),
        (4, 2, 0, 2, ""),
        (4, 2, 16, 4, "context 4 does not divide 4 heads over 2 key heads"),
        (4, 4, 15, 2, "context 2 does not divide rows of 15 tokens"),
    ],
)
def test_heads_and_tokens_must_divide(heads: int, keys: int, row: int, n: int, said: str) -> None:
    assert Ulysses().unfit(Config(50, 16, 2, heads, keys, 24, 16), row, {"context": n}) == said


def test_heads_that_tensor_leaves_must_divide() -> None:
    cfg = Config(50, 16, 2, 4, 2, 24, 16)
    said = Ulysses().unfit(cfg, 16, {"context": 2, "tensor": 2})
    assert said == "context 2 does not divide 2 heads over 1 key heads, which tensor 2 leaves"
    assert Ulysses().unfit(Config(50, 16, 2, 4, 4, 24, 16), 16, {"context": 2, "tensor": 2}) == ""


def test_an_exchange_with_oneself_changes_nothing(tmp_path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        x = torch.randn(2, 3, 4, 5)
        assert torch.equal(to_heads(x, dist.group.WORLD), x) and torch.equal(to_tokens(x, dist.group.WORLD), x)
    finally:
        dist.destroy_process_group()

"""A vocabulary over ranks: what it cannot divide is refused. Its numbers are compared in tests/train/test_mesh.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bloomery.core import catalog
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer

ONE = {"context": 1, "pipeline": 1}


@pytest.mark.parametrize(
    ("vocab", "sizes", "said"),
    [
        (50, {"tensor": 2, **ONE}, ""),
        (51, {"tensor": 2, **ONE}, "vocabulary_parallel cuts 51 words, which tensor 2 does not divide; megatron_tensor leaves them whole"),
        (50, {"tensor": 5, **ONE}, "tensor 5 does not divide 4 heads"),
        (50, {"tensor": 2, "context": 1, "pipeline": 2}, "vocabulary_parallel cuts embedding and head, which pipeline parts"),
    ],
)
def test_words_and_blocks_must_divide(vocab: int, sizes: dict, said: str) -> None:
    method = catalog.build_method("parallel", "vocabulary_parallel")
    found = method.unfit(Config(vocab, 16, 2, 4, 2, 24, 16), 16, sizes)
    assert found.startswith(said) and bool(found) == bool(said)


def test_one_rank_has_whole_tables() -> None:
    net, mesh = Transformer(Config(50, 16, 1, 4, 2, 24, 16), None), SimpleNamespace(sizes={"tensor": 1})
    assert catalog.build_method("parallel", "vocabulary_parallel").place(net, mesh) is net
    assert not hasattr(net, "vocabulary") and net.head.weight is net.embed.weight and net.embed.weight.shape == (50, 16)

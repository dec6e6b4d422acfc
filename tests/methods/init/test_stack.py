from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.methods.init.stack import Stack
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng, Source

CFG = Config(61, 16, 2, 4, 2, 24, 32)


def stacked(small: Transformer, **changes) -> Transformer:
    net = Transformer(replace(small.cfg, **changes), Rng((9,)))
    Stack().apply(Source(net=net), [Source(net=small)], None, Rng((0,)))
    return net


def test_at_the_same_depth_it_is_a_copy():
    small, row = Transformer(CFG), torch.arange(9)[None]
    assert torch.equal(stacked(small)(row), small(row))


def test_layers_repeat_and_all_else_is_copied():
    small = Transformer(replace(CFG, tied=False))
    deep = stacked(small, layers=5)
    for i, block in enumerate(deep.blocks):
        assert all(torch.equal(p, small.blocks[i % 2].get_parameter(name)) for name, p in block.named_parameters())
    assert torch.equal(deep.head.weight, small.head.weight) and torch.equal(deep.embed.weight, small.embed.weight)


def test_other_differences_are_refused():
    small = Transformer(CFG)
    for changes, words in (({"ffn": 48}, "ffn is 24"), ({"vocab": 60}, "vocab is 61"), ({"layers": 1}, "2 layers or more")):
        with pytest.raises(BadInput, match=words):
            stacked(small, **changes)
    with pytest.raises(BadInput, match="one model"):
        Stack().apply(Source(net=small), [], None, Rng((0,)))

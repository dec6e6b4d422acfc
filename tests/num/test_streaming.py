"""Attention of a chunk over earlier keys and its own, and a block in chunks."""

from __future__ import annotations

import pytest
import torch

from bloomery.nn.attention import attend, visible
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.num.streaming import attend_piece, stream
from bloomery.seams import Rng


@pytest.mark.parametrize(("a", "b"), [(0, 4), (4, 9), (9, 10), (0, 10)])
def test_a_chunk_attends_as_the_whole_row_does(a: int, b: int) -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 10, heads, 6, generator=g, requires_grad=True) for heads in (4, 2, 2))
    documents = torch.arange(10).expand(2, 10) // 6
    whole = attend(q, k, v, documents)[:, a:b]
    keys, values = (z.transpose(1, 2).flatten(0, 1) for z in (k, v))
    piece = attend_piece(q[:, a:b], (keys[:, :a], keys[:, a:b]), (values[:, :a], values[:, a:b]), visible(documents, a, b, q.device))
    assert torch.allclose(piece, whole, atol=1e-6)


def test_a_block_in_chunks_keeps_its_input_alone_and_gives_the_same_gradients() -> None:
    net = Transformer(Config(20, 16, 1, 2, 2, 24, 16), Rng((0,)))
    block, kept = net.blocks[0], []
    x = torch.randn(2, 11, 16, requires_grad=True)
    ctx = net.prepare(torch.arange(11)[None], torch.zeros(2, 11, dtype=torch.long))
    block(x, ctx).square().sum().backward()
    wanted = [x.grad.clone(), *(p.grad.clone() for p in block.parameters())]
    x.grad = None
    block.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = stream(block, x, ctx, 4)
    assert len(kept) == 1 and kept[0].data_ptr() == x.data_ptr()
    out.square().sum().backward()
    for found, one in zip([x.grad, *(p.grad for p in block.parameters())], wanted, strict=True):
        assert (found - one).norm() <= 2e-6 * one.norm()
    assert "forward" not in vars(block.mixer)

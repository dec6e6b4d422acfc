from __future__ import annotations

import pytest
import torch

from bloomery.methods.module.mix_ln import MixLN
from bloomery.nn.config import Config
from bloomery.nn.model import Block, Transformer
from bloomery.nn.modules import fit
from bloomery.seams import Rng


def net(layers: int = 4, share: float | None = None) -> Transformer:
    made = Transformer(Config(vocab=61, width=16, layers=layers, heads=4, kv_heads=2, ffn=24, context=32)).eval()
    if share is not None:
        fit(made, [MixLN(share)], Rng((0,)))
    return made


@pytest.mark.parametrize(("layers", "share", "post"), [(4, 0.25, 1), (12, 0.25, 3), (3, 0.25, 1), (4, 0.0, 0), (4, 1.0, 4)])
def test_the_first_share_of_the_layers_is_post_ln(layers, share, post):
    kinds = [type(block) is not Block for block in net(layers, share).blocks]
    assert kinds == [True] * post + [False] * (layers - post)


def test_a_post_ln_layer_is_the_formula_with_the_same_parameters():
    made, plain = net(1, 1.0), net(1)
    assert {name: p.shape for name, p in made.named_parameters()} == {name: p.shape for name, p in plain.named_parameters()}
    made.load_state_dict(plain.state_dict())
    x, ctx = torch.randn(2, 7, 16), plain.prepare(torch.arange(7)[None], None)
    block, norm = plain.blocks[0], lambda x: x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    y = norm(x + block.mixer(x, ctx))
    torch.testing.assert_close(made.blocks[0](x, ctx), norm(y + block.mlp(y)), rtol=1e-4, atol=1e-5)


def test_with_no_post_ln_layer_nothing_changes():
    row = torch.arange(9)[None]
    assert torch.equal(net(share=0.0)(row), net()(row))
    with pytest.raises(ValueError, match="between 0 and 1"):
        MixLN(1.5)

from __future__ import annotations

from collections import Counter

import pytest
import torch

from bloomery.methods.module.matformer import MatFormer, set_widths
from bloomery.nn.config import Config
from bloomery.nn.model import FeedForward, Transformer
from bloomery.nn.modules import before_step, exported, fit
from bloomery.seams import Clock, Rng, Site

SHAPES = [{}, {"mlp_bias": True}, {"gated": False, "activation": "gelu_tanh", "mlp_bias": True}]
AT = Site("mlp", "blocks.0.mlp", 0, 1)


def config(**more) -> Config:
    return Config(vocab=61, width=16, layers=3, heads=4, kv_heads=2, ffn=24, context=32, **more)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_width_is_the_plain_one_and_a_part_is_its_first_units(shape):
    cfg, x = config(**shape), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    old = FeedForward(cfg)
    m = MatFormer().build(cfg, AT, old, Rng((0,))).eval()
    torch.testing.assert_close(m(x), old(x))
    m.width = 6
    hidden = old.act(x @ old.up.weight.t() + old.up.bias) if not cfg.gated else None
    if cfg.gated:
        gate, up = old.gate_up(x).chunk(2, dim=-1)
        hidden = old.act(gate) * up
    hidden[..., 6:] = 0
    torch.testing.assert_close(m(x), old.down(hidden))
    small = m.plain()
    assert small.down.in_features == 6 or small.down.weight.shape == (16, 6)
    torch.testing.assert_close(small(x), m(x))


def test_a_step_trains_one_share_in_all_layers_and_only_its_units():
    net = Transformer(config()).train()
    found = fit(net, [MatFormer((0.25, 1.0), odds=(3, 1))], Rng((0,)))
    drawn = Counter()
    for step in range(200):
        before_step(found, Clock(step, 0, 1, None), Rng((5, step)))
        widths = {m.trained for _, m, _ in found}
        assert len(widths) == 1
        drawn |= Counter()
        drawn[widths.pop()] += 1
    assert set(drawn) == {6, 24} and 120 < drawn[6] < 180
    for _, m, _ in found:
        m.trained = 6
    net(torch.arange(9)[None]).square().sum().backward()
    down = net.blocks[0].mlp.down.weight.grad
    assert down[:, :6].any() and not down[:, 6:].any()
    assert all(m.width == 24 for _, m, _ in found)  # in use it is whole, whatever is trained
    before_step(found, Clock(0, 0, 1, None), Rng((5, 0)))
    again = [m.trained for _, m, _ in found]
    before_step(found, Clock(0, 0, 1, None), Rng((5, 0)))
    assert again == [m.trained for _, m, _ in found]


def test_layers_can_be_mixed_and_one_width_is_exported():
    net = Transformer(config()).eval()
    fit(net, [MatFormer()], Rng((0,)))
    set_widths(net, [0.25, 0.5, 1.0])
    assert [block.mlp.width for block in net.blocks] == [6, 12, 24]
    set_widths(net, [0.5])
    copy, row = exported(net), torch.arange(9)[None]
    assert copy.cfg.ffn == 12 and sum(p.numel() for p in copy.parameters()) == copy.cfg.parameters()
    torch.testing.assert_close(copy(row), net(row), rtol=0, atol=1e-5)
    for knobs in ({"widths": (0.5,)}, {"widths": ()}, {"odds": (1.0,)}):
        with pytest.raises(ValueError, match="must be"):
            MatFormer(**knobs)

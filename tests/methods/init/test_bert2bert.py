"""A grown model computes what its source did, layer by layer of every shape that we have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.methods.init.bert2bert import Bert2BERT, stacked
from bloomery.methods.init.scaled_normal import ScaledNormal
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng, Source

LLAMA = Config(64, 32, 2, 2, 2, 48, 32)
SHAPES = {
    "llama": (LLAMA, {"width": 64, "heads": 4, "kv_heads": 4, "ffn": 96}),
    "odd ffn": (LLAMA, {"width": 64, "heads": 4, "kv_heads": 4, "ffn": 131}),
    "grouped": (replace(LLAMA, heads=4, head_width=8), {"width": 96, "heads": 16, "kv_heads": 4, "ffn": 96}),
    "more groups": (replace(LLAMA, heads=4, head_width=8), {"heads": 12, "kv_heads": 2}),
    "untied": (replace(LLAMA, tied=False), {"width": 64}),
    "untied of tied": (LLAMA, {"width": 64, "tied": False}),
    "qwen": (replace(LLAMA, qkv_bias=True, qk_norm=True), {"width": 64, "heads": 4, "kv_heads": 4}),
    "gpt2": (
        replace(LLAMA, norm="layer", positions="learned", gated=False, activation="gelu_tanh", qkv_bias=True, out_bias=True, mlp_bias=True),
        {"width": 128, "heads": 4, "kv_heads": 4, "ffn": 96, "context": 20},
    ),
}


def source(cfg: Config) -> Transformer:
    net = Transformer(cfg)
    ScaledNormal().apply(Source(net=net), (), None, Rng((1,)))
    for name, p in net.named_parameters():
        if p.dim() == 1:  # gains and biases as after training
            p.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return net


def grown(small: Transformer, changes: dict, seed: int = 0, **knobs) -> Transformer:
    net = Transformer(replace(small.cfg, **{"head_width": small.cfg.head_width, **changes}))
    Bert2BERT(**knobs).apply(Source(net=net), [Source(net=small)], None, Rng((seed,)))
    return net


def gap(a: Transformer, b: Transformer) -> float:
    row = torch.randint(0, 64, (3, 20), generator=torch.Generator().manual_seed(0))
    return float((a.logits(a(row)) - b.logits(b(row))).abs().max().detach())


@pytest.mark.parametrize("uneven", [0.0, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_the_source_s(shape, uneven):
    cfg, changes = SHAPES[shape]
    small = source(cfg)
    assert gap(grown(small, changes, knowledge="own", uneven=uneven), small) < 1e-4


def test_new_units_of_the_layer_above_change_the_function_and_leave_the_old_units():
    small = source(LLAMA)
    changes = {"width": 64, "heads": 4, "kv_heads": 4, "ffn": 96}
    advanced, own = grown(small, changes), grown(small, changes, knowledge="own")
    assert gap(advanced, small) > 1e-2
    for part, rows in (("mlp.gate_up", 48), ("mixer.qkv", 32)):
        below, ours, theirs = (net.get_submodule(f"blocks.0.{part}").weight for net in (small, advanced, own))
        assert torch.equal(ours[:rows], theirs[:rows]) and not torch.equal(ours[rows : 2 * rows], theirs[rows : 2 * rows])
        assert ours.shape[0] == 2 * below.shape[0]
    last = [net.blocks[1].mlp.gate_up.weight for net in (advanced, own)]
    assert torch.equal(*last)  # nothing is above the last layer
    above = small.blocks[1].mlp.gate_up.weight
    fresh = advanced.blocks[0].mlp.gate_up.weight[48:96]
    back = torch.zeros(48, 32)  # what the copies of an input are read with, together
    width = advanced.embed.weight[:1] == 0
    assert not width.any()
    index = torch.stack([(advanced.embed.weight[:, i, None] == small.embed.weight).all(0).nonzero()[0, 0] for i in range(64)])
    back.index_add_(1, index, fresh)
    assert all(min((row - one).abs().max() for one in above[:48]) < 1e-5 for row in back)


def test_copies_that_are_read_unequally_grow_apart_and_equal_ones_never_do():
    small, row = source(LLAMA), torch.randint(0, 64, (4, 20), generator=torch.Generator().manual_seed(0))
    ranks = []
    for uneven in (0.0, 0.5):
        net = grown(small, {"width": 64, "heads": 4, "kv_heads": 4, "ffn": 96}, uneven=uneven)
        sgd = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(3):
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(net.logits(net(row[:, :-1])).flatten(0, 1), row[:, 1:].flatten()).backward()
            sgd.step()
        with torch.no_grad():
            ranks.append(int(torch.linalg.matrix_rank(net(row).flatten(0, 1) / net.norm.weight, tol=1e-3)))
    assert ranks[0] <= 32 < ranks[1]


def test_layers_are_stacked_with_the_highest_on_top():
    assert [stacked(i, 7, 3) for i in range(7)] == [0, 1, 2, 0, 1, 2, 2]
    small = source(LLAMA)
    deep = grown(small, {"layers": 5})
    assert deep.blocks[2].mlp.down.weight.equal(small.blocks[0].mlp.down.weight)
    assert deep.blocks[4].mlp.down.weight.equal(small.blocks[1].mlp.down.weight)


def test_what_cannot_grow_is_refused():
    small, big = source(LLAMA), {"width": 64, "heads": 4, "kv_heads": 4}
    for changes, words in (
        ({"width": 48}, "no multiple of the 32"), ({"ffn": 24}, "ffn is smaller"), ({"heads": 4, "kv_heads": 1}, "kv_heads is smaller"),
        ({"heads": 1, "kv_heads": 1, "head_width": 32}, "head_width is 16"), ({"rope_base": 5e5}, "rope_base"), ({"vocab": 65}, "vocab"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            grown(small, {**big, **changes})
    assert gap(grown(small, {"width": 48}, unequal=True, knowledge="own"), small) > 1e-2
    with pytest.raises(BadInput, match="grows one model"):
        Bert2BERT().apply(Source(net=small), [], None, Rng((0,)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        Bert2BERT(uneven=2.0)
    a, b = grown(small, big), grown(small, big, seed=1)
    assert not torch.equal(a.embed.weight, b.embed.weight) and torch.equal(a.embed.weight, grown(small, big).embed.weight)

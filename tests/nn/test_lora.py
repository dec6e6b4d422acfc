from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core.machine import compiler
from bloomery.nn.config import Config
from bloomery.nn.lora import LoraLinear, Part, dropped, parts, reseed
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
QKV = (Part("q", 24, 4, 8.0), Part("k", 8), Part("v", 8, 2, 3.0, rooted=True))


def make(dtype: torch.dtype = torch.float32, bias: bool = False, dropout: float = 0.0, kinds=QKV) -> LoraLinear:
    torch.manual_seed(0)
    unit = LoraLinear(nn.Linear(16, sum(part.rows for part in kinds), bias=bias), kinds, dropout, Rng((1,)))
    for b in unit.b.values():
        nn.init.normal_(b)
    return unit.to(dtype)


def test_each_part_adds_its_own_product_and_a_part_without_rank_nothing():
    unit, x = make(bias=True), torch.randn(2, 5, 16)
    y, base = unit(x), unit.base(x)
    assert torch.equal(y[..., 24:32], base[..., 24:32])
    assert torch.allclose(y[..., :24], base[..., :24] + 8 / 4 * (x @ unit.a["q"].T @ unit.b["q"].T), atol=1e-5)
    assert torch.allclose(y[..., 32:], base[..., 32:] + 3 / 2**0.5 * (x @ unit.a["v"].T @ unit.b["v"].T), atol=1e-5)


def test_a_is_drawn_as_peft_draws_it_and_b_is_zero():
    """Kaiming uniform with a = sqrt(5): within 1 / sqrt(inputs), of variance 1 / (3 inputs)."""
    big = Part("o", 32, 64, 1.0)
    one, again, other = (LoraLinear(nn.Linear(400, 32), (big,), rng=Rng((seed,))) for seed in (0, 0, 1))
    a = one.a["o"]
    assert torch.equal(a, again.a["o"]) and not torch.equal(a, other.a["o"])
    assert a.abs().max() <= 400**-0.5 and a.var().item() == pytest.approx(1 / 1200, rel=0.03)
    assert not one.b["o"].any() and torch.equal(one(torch.ones(1, 400)), one.base(torch.ones(1, 400)))


def test_only_the_adapters_learn_and_gradients_are_those_of_the_formula():
    unit, x = make(), torch.randn(7, 16, requires_grad=True)
    assert {name for name, p in unit.named_parameters() if p.requires_grad} == {"a.q", "a.v", "b.q", "b.v"}
    g = torch.randn(7, 40)
    unit(x).backward(g)
    a, b = unit.a["q"], unit.b["q"]
    assert torch.allclose(b.grad, 2.0 * g[:, :24].T @ (x @ a.T), atol=1e-4)
    assert torch.allclose(a.grad, 2.0 * b.T @ g[:, :24].T @ x, atol=1e-4)
    assert torch.allclose(x.grad, g @ unit.merged().weight, atol=1e-4)
    assert unit.base.weight.grad is None


@pytest.mark.parametrize("bias", [False, True])
def test_merged_computes_the_same_and_leaves_other_rows_bitwise(bias):
    unit, x = make(bias=bias), torch.randn(9, 16)
    plain = unit.merged()
    assert type(plain) is nn.Linear and torch.allclose(plain(x), unit(x), atol=1e-5)
    assert torch.equal(plain.weight[24:32], unit.base.weight[24:32]) and not torch.equal(plain.weight[:24], unit.base.weight[:24])
    half = make(torch.bfloat16, bias).merged()
    assert half.weight.dtype == torch.bfloat16
    assert torch.equal(half.weight[24:32], unit.base.weight[24:32].bfloat16())


def test_bfloat16_and_adapters_of_another_type_than_the_base():
    unit, x = make(), torch.randn(9, 16)
    wanted = unit(x)
    mixed = make()
    mixed.base.to(torch.bfloat16)
    for one in (make(torch.bfloat16), mixed):
        y = one(x.bfloat16())
        assert y.dtype == torch.bfloat16 and (y.float() - wanted).norm() < 0.02 * wanted.norm()
    with torch.inference_mode():
        assert torch.equal(unit(x), wanted)


INDUCTOR = pytest.param("inductor", marks=[pytest.mark.wide, pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")])


@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_one_block_compiles_whole_and_computes_the_same(dropout, backend):
    torch.compiler.reset()
    net = Transformer(Config(64, 32, 2, 4, 2, 48, 16), Rng((3,)))
    for name, held in parts(net).items():
        adapted = [Part(part, rows, 4, 8.0) for part, rows, _ in held]
        unit = LoraLinear(net.get_submodule(name), adapted, dropout, Rng((name,)))
        net.set_submodule(name, unit)
        for b in unit.b.values():
            nn.init.normal_(b, std=0.1)
    tokens = torch.arange(16)[None]

    def grads() -> list:
        reseed(net, Rng((5,)))
        net.zero_grad()
        net(tokens).sum().backward()
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    wanted = grads()
    for block in net.blocks:
        block.compile(dynamic=False, fullgraph=True, backend=backend)
    for a, b in zip(grads(), wanted, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-6


def test_dropout_keeps_the_mean_varies_and_can_be_repeated():
    x = torch.ones(200, 500)
    seeds = [torch.tensor(seed) for seed in (0, 1, 2, 77)]
    masks = [dropped(x, seed, 0.25) for seed in seeds]
    for mask in masks:
        assert mask.unique().tolist() == pytest.approx([0.0, 4 / 3])
        assert (mask == 0).float().mean().item() == pytest.approx(0.25, abs=0.007)
        assert (mask == 0).float().mean(0).std().item() == pytest.approx((0.25 * 0.75 / 200) ** 0.5, rel=0.15)
        assert (mask == 0).float().mean(1).std().item() == pytest.approx((0.25 * 0.75 / 500) ** 0.5, rel=0.25)
    assert torch.equal(dropped(x[:, 130:], seeds[0], 0.25, 130), masks[0][:, 130:])  # a rank's columns of it
    for other in masks[1:]:  # independent: both drop a number with probability 1 / 16
        assert ((masks[0] == 0) & (other == 0)).float().mean().item() == pytest.approx(1 / 16, abs=0.004)

    unit, x = make(dropout=0.5), torch.randn(9, 16)
    first, second = unit(x), unit(x)
    assert not torch.equal(first, second)
    reseed(unit, Rng((4,)))
    once = unit(x)
    reseed(unit, Rng((4,)))
    assert torch.equal(unit(x), once) and torch.equal(unit(x)[:, 24:32], first[:, 24:32])
    assert torch.allclose(unit.eval()(x), unit.merged()(x), atol=1e-5)
    assert "seed" not in unit.state_dict()


def test_parts_of_every_architecture_are_named_and_cover_the_rows():
    llama = Transformer(Config(64, 32, 1, 4, 2, 48, 16), None)
    table = parts(llama)
    assert [(name, rows) for name, rows, _ in table["blocks.0.mixer.qkv"]] == [("q", 32), ("k", 16), ("v", 16)]
    assert table["blocks.0.mixer.out"] == (("o", 32, "model.layers.0.self_attn.o_proj"),)
    assert [name for name, _, _ in table["blocks.0.mlp.gate_up"]] == ["gate", "up"] and len(table) == 4
    gpt2 = {"norm": "layer", "positions": "learned", "gated": False, "activation": "gelu_tanh"}
    biases = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
    table = parts(Transformer(Config(64, 32, 1, 4, 4, 48, 16, architecture="gpt2", **gpt2, **biases), None))
    assert table["blocks.0.mixer.qkv"] == (("qkv", 96, "transformer.h.0.attn.c_attn"),)
    assert [name for held in table.values() for name, _, _ in held] == ["qkv", "o", "up", "down"]


def test_parts_of_experts_are_those_of_a_feed_forward_and_a_shared_one_goes_by_names_of_its_own():
    mixed = Config(64, 32, 1, 4, 2, 48, 16, architecture="mixtral", experts=2, top=1, shared_ffn=8)
    table = parts(Transformer(mixed, None))
    assert table["blocks.0.mlp.experts.1.gate_up"] == (
        ("gate", 48, "model.layers.0.block_sparse_moe.experts.1.w1"), ("up", 48, "model.layers.0.block_sparse_moe.experts.1.w3"),
    )  # fmt: skip
    assert table["blocks.0.mlp.shared.gate_up"] == (("gate", 8, "blocks.0.mlp.shared.gate"), ("up", 8, "blocks.0.mlp.shared.up"))
    assert len(table) == 8


def test_wrong_parts_are_refused():
    for kinds, word in (((Part("q", 5, 2, 1.0),), "rows"), ((Part("q", 40),), "rank")):
        with pytest.raises(ValueError, match=word):
            LoraLinear(nn.Linear(16, 40), kinds)

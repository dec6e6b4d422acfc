import pytest
import torch
from small_codes import rounded

from bloomery.core.errors import BadInput
from bloomery.infer.int4 import Int4
from bloomery.infer.int8 import Int8, whole_products
from bloomery.infer.weights import pack, stored
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import Grid
from bloomery.seams import Rng

torch.set_num_threads(1)
SHAPE = {"vocab": 128, "width": 64, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 128, "context": 64}
IDS = torch.randint(0, 128, (2, 40), generator=torch.Generator().manual_seed(0))


def make(dtype=torch.float32, **changes) -> Transformer:
    return Transformer(Config(**{**SHAPE, **changes}), Rng((4,))).eval().to(dtype)


def test_copies_for_many_rows_are_counted_and_are_no_linears_of_their_own():
    for weights, more in (("int8", int(whole_products())), ("w8a8", int(whole_products()))):
        net, wide = make(torch.bfloat16), make(torch.bfloat16)
        small, large = pack(net, weights), pack(wide, weights, wide=True)
        products = sum(unit.codes.numel() for unit in net.modules() if isinstance(unit, Int8))
        assert large.bytes[weights] - small.bytes[weights] == more * products and large.count == small.count
        assert stored(wide) == stored(net) == f"bfloat16 with 9 linears in {weights}"


@pytest.mark.parametrize(("weights", "least"), [("bf16", 0.0), ("int8", 1e-4), ("w8a8", 1e-4), ("int4", 1e-3), ("w4a8", 1e-3)])
@torch.inference_mode()
def test_a_model_of_packed_linears_is_near_the_dense_one(weights, least):
    dtype = torch.bfloat16 if weights == "bf16" else torch.float32
    net, dense = make(dtype), make()
    report = pack(net, weights)
    want = dense.logits(dense(IDS))
    error = (net.logits(net(IDS)).float() - want).norm() / want.norm()
    assert least <= error < {"bf16": 0.02, "int8": 0.02, "w8a8": 0.04, "int4": 0.2, "w4a8": 0.2}[weights] and not report.dense
    assert sum(report.count.values()) == 9 and torch.equal(net.embed.weight.float(), dense.embed.weight.to(dtype).float())
    assert (
        set(report.count)
        == {"bf16": {"bf16"}, "int8": {"int8"}, "w8a8": {"w8a8"}, "int4": {"int8", "int4"}, "w4a8": {"w8a8", "w4a8"}}[weights]
    )


@torch.inference_mode()
def test_stored_codes_are_kept_as_they_are():
    net, stored = make(), {}
    for name, grid in (("mixer.qkv", Grid(4, 32)), ("mlp.down", Grid(8, -1)), ("mlp.gate_up", Grid(8, 32)), ("mixer.out", Grid(3, 32))):
        unit = net.get_submodule(f"blocks.0.{name}")
        fitted = grid.fit(unit.weight)
        stored[f"blocks.0.{name}"] = Packed(grid.round(unit.weight, fitted), *fitted, grid.bits, grid.width(unit.in_features))
        net.set_submodule(f"blocks.0.{name}", torch.nn.Linear(unit.in_features, unit.out_features, bias=False))
        net.get_submodule(f"blocks.0.{name}").weight = torch.nn.Parameter(stored[f"blocks.0.{name}"].dense(), requires_grad=False)
    want = net.logits(net(IDS))
    report = pack(net, "stored", stored)
    torch.testing.assert_close(net.logits(net(IDS)), want, rtol=1e-4, atol=1e-4)
    assert isinstance(net.blocks[0].mixer.qkv, Int4) and isinstance(net.blocks[0].mlp.down, Int8)
    assert type(net.blocks[0].mlp.gate_up) is torch.nn.Linear and "one scale" in report.dense["blocks.0.mlp.gate_up"]
    assert report.dense["blocks.1.mlp.down"] == "it is stored dense" and report.dense["blocks.0.mixer.out"].endswith("have 3")


def test_experts_and_linears_that_do_more_are_left_alone():
    net = make(experts=4, top=2)
    kept = Quantized(rounded(128, 64, Grid(8, -1)))
    net.set_submodule("blocks.0.mixer.qkv", kept)
    report = pack(net, "int8")
    assert net.blocks[0].mixer.qkv is kept and all(type(one.down) is torch.nn.Linear for one in net.blocks[0].mlp.experts)
    assert "blocks.0.mlp.experts.0.down" in report.dense


def test_words_that_mean_nothing_are_refused():
    with pytest.raises(BadInput, match="weights must be one of bf16, int8, w8a8, int4, w4a8, stored, got 'int3'"):
        pack(make(), "int3")
    with pytest.raises(BadInput, match="the model is in another type"):
        pack(make(), "bf16")
    with pytest.raises(BadInput, match="holds no codes"):
        pack(make(), "stored")
    with pytest.raises(BadInput, match="take fp32 and bfloat16, and the model is in float16"):
        pack(make(torch.float16), "int8")

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.infer import weights as forms
from bloomery.infer.weights import Half, Int4, Int8, Int8Inputs, lanes, pack, stored, summed, unpacked, whole_blocks
from bloomery.nn.config import Config
from bloomery.nn.inputs import rounded as rounded_inputs
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import Grid
from bloomery.seams import Rng

torch.set_num_threads(1)
SHAPE = {"vocab": 128, "width": 64, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 128, "context": 64}
IDS = torch.randint(0, 128, (2, 40), generator=torch.Generator().manual_seed(0))


def make(dtype=torch.float32, **changes) -> Transformer:
    return Transformer(Config(**{**SHAPE, **changes}), Rng((4,))).eval().to(dtype)


def rounded(rows: int, columns: int, grid: Grid, order: bool = False) -> Packed:
    w = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    fitted = grid.fit(w)
    turned = torch.randperm(columns, generator=torch.Generator().manual_seed(1)).int() if order else None
    return Packed(grid.round(w, fitted), *fitted, grid.bits, grid.width(columns), turned)


@pytest.mark.parametrize("rows", [1, 3, 16, 40, 100])
@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize(
    ("kind", "grid"),
    [(Int8, Grid(8, -1)), (Int4, Grid(4, 32)), (Int4, Grid(4, 64, symmetric=False)), (Int4, Grid(4, 128, symmetric=False))],
)
def test_products_on_codes_are_those_of_the_dense_weight(kind, grid, order, rows):
    packed, bias = rounded(64, 256, grid, order), torch.linspace(-1, 1, 64)
    unit = kind(packed, bias, torch.float32)
    x = torch.randn(rows, 2, 256, generator=torch.Generator().manual_seed(5))
    want = x @ packed.dense().T + bias
    torch.testing.assert_close(unit(x), want, rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(unit.weight, packed.dense(), rtol=1e-4, atol=1e-4)


def test_a_lone_row_is_summed_over_the_codes_in_a_graph(monkeypatch):
    """And several rows, or one outside a graph, are multiplied by torch's product; the numbers are the same."""
    packed, bias = rounded(64, 256, Grid(8, -1), order=True), torch.linspace(-1, 1, 64)
    unit, x = Int8(packed, bias, torch.float32), torch.randn(2, 1, 256, generator=torch.Generator().manual_seed(5))
    calls = []
    monkeypatch.setattr(forms, "summed", lambda *given: calls.append(len(given[0])) or summed(*given))
    eager = unit(x[:1])
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not calls and unit(x).shape == (2, 1, 64) and not calls
    traced = unit(x[:1])
    assert calls == [1] and traced.shape == (1, 1, 64)
    torch.testing.assert_close(traced, eager, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(traced, x[:1] @ packed.dense().T + bias, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 16, 40])
def test_inputs_of_8_bits_are_those_that_quality_is_measured_with(rows):
    packed = rounded(64, 256, Grid(8, -1))
    unit, x = Int8Inputs(packed, None, torch.float32), torch.randn(rows, 256, generator=torch.Generator().manual_seed(5))
    x[0, :3] = 0.0
    torch.testing.assert_close(unit(x), rounded_inputs(x, "int8") @ packed.dense().T, rtol=1e-4, atol=1e-3)
    assert torch.equal(unit(x)[:1], unit(x[:1])) and not unit(torch.zeros(1, 256)).any()


@pytest.mark.parametrize("rows", [7, 8, 31, 32])
def test_a_bfloat16_input_in_two_pieces_is_the_whole_input_but_for_rounding(rows):
    """Codes and scales are exact in bfloat16, so that all that differs from fp64 is the cutting and the output's rounding."""
    made = torch.Generator().manual_seed(rows)
    codes, scale = torch.randint(-127, 128, (64, 256), generator=made).to(torch.int8), torch.full((64, 1), 2.0**-7)
    unit = Int8(Packed(codes, scale, None, 8, 256), None, torch.bfloat16)
    x = torch.randn(rows, 256, generator=made).bfloat16()
    x[0], x[1, 3] = 0.0, 100.0
    want = x.double() @ (codes.double() * 2.0**-7).T
    bound = 2.0**-8 * want.abs() + 2.0**-15 * x.double().abs().amax(-1, keepdim=True) * (codes.double().abs() * 2.0**-7).sum(-1)
    assert bool(((unit(x).double() - want).abs() <= bound).all()) and not unit(x)[0].any()
    x[2, 5] = float("nan")
    assert unit(x)[2].isnan().all() and not unit(x)[3].isnan().any()


@pytest.mark.parametrize("rows", [1, 8, 20, 40])
def test_blocks_of_codes_give_the_very_numbers_of_the_codes(rows):
    packed, x = rounded(64, 256, Grid(8, -1)), torch.randn(rows, 256, generator=torch.Generator().manual_seed(5)).bfloat16()
    unit = Int8Inputs(packed, torch.ones(64), torch.bfloat16)
    narrow = unit(x)
    unit.widen()
    assert (unit.blocks is not None) == whole_blocks() and torch.equal(unit(x), narrow)


def test_four_bit_codes_are_read_from_the_bytes_of_the_kernel():
    if not lanes():
        pytest.skip("this processor's kernel lays its bytes in another way")
    packed = rounded(128, 256, Grid(4, 64, symmetric=False))
    unit = Int4(packed, None, torch.float32)
    assert torch.equal(unpacked(unit.codes).T, packed.codes_OI.float() + 8)
    torch.testing.assert_close(unit.weight, packed.dense(), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no bfloat16")
def test_blocks_are_the_weight_and_a_wide_copy_is_used_for_many_rows():
    w, x = torch.randn(64, 128).bfloat16(), torch.randn(16, 128).bfloat16()
    unit = Half(w, torch.ones(64).bfloat16())
    assert torch.equal(unit.weight, w)
    torch.testing.assert_close(unit(x).float(), x.float() @ w.float().T + 1, rtol=0.01, atol=0.1)
    unit.plain()
    assert unit.blocks is None and torch.equal(unit.weight, w)
    torch.testing.assert_close(unit(x).float(), x.float() @ w.float().T + 1, rtol=0.01, atol=0.1)
    codes = Int4(rounded(64, 128, Grid(4, 32)), None, torch.bfloat16)
    few, many = codes(x[:2]), codes(x)
    codes.widen()
    assert torch.equal(codes(x[:2]), few) and not torch.equal(codes(x), many)
    torch.testing.assert_close(codes(x), many, rtol=0.05, atol=0.3)
    assert codes.wide.blocks is not None


def test_copies_for_many_rows_are_counted_and_are_no_linears_of_their_own():
    for weights, more in (("int8", 2), ("w8a8", 1 if whole_blocks() else 0)):
        net, wide = make(torch.bfloat16), make(torch.bfloat16)
        small, large = pack(net, weights), pack(wide, weights, wide=True)
        products = sum(unit.codes.numel() for unit in net.modules() if isinstance(unit, Int8))
        assert large.bytes[weights] - small.bytes[weights] == more * products and large.count == small.count
        assert stored(wide) == stored(net) == f"bfloat16 with 9 linears in {weights}"


def test_what_products_cannot_take_says_why():
    assert "one scale for each output" in Int8.unfit(rounded(64, 64, Grid(8, 32)))
    assert "groups of 32" in Int4.unfit(rounded(64, 64, Grid(4, 16))) and "multiples of 64 rows" in Int4.unfit(rounded(48, 64, Grid(4, 32)))
    assert not Int8.unfit(rounded(64, 64, Grid(8, -1))) and not Int4.unfit(rounded(64, 64, Grid(4, 32)))


@pytest.mark.parametrize(("weights", "least"), [("bf16", 0.0), ("int8", 1e-4), ("w8a8", 1e-4), ("int4", 1e-3)])
@torch.inference_mode()
def test_a_model_of_packed_linears_is_near_the_dense_one(weights, least):
    dtype = torch.bfloat16 if weights == "bf16" else torch.float32
    net, dense = make(dtype), make()
    report = pack(net, weights)
    want = dense.logits(dense(IDS))
    error = (net.logits(net(IDS)).float() - want).norm() / want.norm()
    assert least <= error < {"bf16": 0.02, "int8": 0.02, "w8a8": 0.04, "int4": 0.2}[weights] and not report.dense
    assert sum(report.count.values()) == 9 and torch.equal(net.embed.weight.float(), dense.embed.weight.to(dtype).float())
    assert set(report.count) == {"bf16": {"bf16"}, "int8": {"int8"}, "w8a8": {"w8a8"}, "int4": {"int8", "int4"}}[weights]


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
    with pytest.raises(BadInput, match="weights must be one of bf16, int8, w8a8, int4, stored, got 'int3'"):
        pack(make(), "int3")
    with pytest.raises(BadInput, match="the model is in another type"):
        pack(make(), "bf16")
    with pytest.raises(BadInput, match="holds no codes"):
        pack(make(), "stored")

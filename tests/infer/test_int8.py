import pytest
import torch
from small_codes import rounded

from bloomery.infer import int8
from bloomery.infer.dense import summed
from bloomery.infer.int8 import Int8, Int8Inputs, whole_products
from bloomery.nn.inputs import rounded as rounded_inputs
from bloomery.nn.packed import Packed
from bloomery.num.grids import Grid

torch.set_num_threads(1)


@pytest.mark.parametrize(("kind", "away"), [(Int8, 1e-5), (Int8Inputs, 2e-2)])
def test_a_lone_row_is_summed_over_the_codes_in_a_graph(kind, away, monkeypatch):
    """And several rows, or one outside a graph, are multiplied otherwise; the numbers are the same."""
    packed, bias = rounded(64, 256, Grid(8, -1), order=True), torch.linspace(-1, 1, 64)
    unit, x = kind(packed, bias, torch.float32), torch.randn(2, 1, 256, generator=torch.Generator().manual_seed(5))
    calls = []
    monkeypatch.setattr(int8, "summed", lambda *given: calls.append(len(given[0])) or summed(*given))
    eager = unit(x[:1])
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not calls and unit(x).shape == (2, 1, 64) and not calls
    traced = unit(x[:1])
    assert calls == [1] and traced.shape == (1, 1, 64)
    torch.testing.assert_close(traced, eager, rtol=1e-5, atol=1e-4)
    want = x[:1] @ packed.dense().T + bias
    assert float((traced - want).norm() / want.norm()) < away


@pytest.mark.parametrize("rows", [1, 16, 40])
def test_inputs_of_8_bits_are_those_that_quality_is_measured_with(rows):
    packed = rounded(64, 256, Grid(8, -1))
    unit, x = Int8Inputs(packed, None, torch.float32), torch.randn(rows, 256, generator=torch.Generator().manual_seed(5))
    x[0, :3] = 0.0
    torch.testing.assert_close(unit(x), rounded_inputs(x, "int8") @ packed.dense().T, rtol=1e-4, atol=1e-3)
    assert torch.equal(unit(x)[:1], unit(x[:1])) and not unit(torch.zeros(1, 256)).any()


@pytest.mark.parametrize("rows", [4, 8, 33])
def test_a_bfloat16_input_in_two_pieces_is_the_whole_input_but_for_rounding(rows):
    """Codes and scales are exact in bfloat16, so that all that differs from fp64 is the cutting and the output's rounding."""
    made = torch.Generator().manual_seed(rows)
    codes, scale = torch.randint(-127, 128, (64, 256), generator=made).to(torch.int8), torch.full((64, 1), 2.0**-7)
    unit = Int8(Packed(codes, scale, None, 8, 256), None, torch.bfloat16)
    x = torch.randn(rows, 1, 256, generator=made).bfloat16()
    x[0], x[1, 0, 3] = 0.0, 100.0
    want = x.double() @ (codes.double() * 2.0**-7).T
    bound = 2.0**-8 * want.abs() + 2.0**-15 * x.double().abs().amax(-1, keepdim=True) * (codes.double().abs() * 2.0**-7).sum(-1)
    assert bool(((unit(x).double() - want).abs() <= bound).all()) and not unit(x)[0].any()
    x[2, 0, 5] = float("nan")
    assert unit(x)[2].isnan().all() and not unit(x)[3].isnan().any()


@pytest.mark.parametrize("kind", [Int8, Int8Inputs])
@pytest.mark.parametrize("rows", [1, 4, 8, 20, 40])
def test_blocks_of_codes_give_the_very_numbers_of_the_codes(kind, rows):
    packed, x = rounded(64, 256, Grid(8, -1)), torch.randn(rows, 1, 256, generator=torch.Generator().manual_seed(5)).bfloat16()
    unit = kind(packed, torch.ones(64), torch.bfloat16)
    narrow = unit(x)
    unit.widen()
    assert (unit.blocks is not None) == whole_products() and torch.equal(unit(x), narrow)


@pytest.mark.parametrize("kind", [Int8, Int8Inputs])
@pytest.mark.parametrize("rows", [1, 4, 40])
def test_processors_without_products_of_whole_numbers_take_others(kind, rows, monkeypatch):
    packed, x = rounded(64, 256, Grid(8, -1)), torch.randn(rows, 1, 256, generator=torch.Generator().manual_seed(5)).bfloat16()
    want = kind(packed, None, torch.bfloat16)(x).float()
    monkeypatch.setattr(int8, "whole_products", lambda: False)
    unit = kind(packed, None, torch.bfloat16)
    unit.widen()
    monkeypatch.setattr(torch, "_int_mm", None)
    found = unit(x).float()
    assert unit.blocks is None and float((found - want).norm() / want.norm()) < 5e-3
    assert torch.equal(unit(torch.cat([x, x]))[:rows], unit(x)) or rows < 4


def test_what_8_bit_products_cannot_take_says_why():
    assert "one scale for each output" in Int8.unfit(rounded(64, 64, Grid(8, 32))) and not Int8.unfit(rounded(64, 64, Grid(8, -1)))
    assert "multiples of 16 rows" in Int8.unfit(rounded(40, 64, Grid(8, -1)))

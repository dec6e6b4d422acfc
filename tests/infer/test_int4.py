import pytest
import torch
from small_codes import rounded

from bloomery.infer.codes import to_nearest
from bloomery.infer.dense import halves
from bloomery.infer.int4 import Int4, Int4Inputs, lanes, unpacked
from bloomery.nn.inputs import rounded as rounded_inputs
from bloomery.num.grids import Grid

torch.set_num_threads(1)


def test_four_bit_codes_are_read_from_the_bytes_of_the_kernel():
    if not lanes():
        pytest.skip("this processor's kernel lays its bytes in another way")
    packed = rounded(128, 256, Grid(4, 64, symmetric=False))
    unit = Int4(packed, None, torch.float32)
    assert torch.equal(unpacked(unit.codes).T, packed.codes_OI.float() + 8)
    torch.testing.assert_close(unit.weight, packed.dense(), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not halves(torch.bfloat16), reason="this processor has no bfloat16")
def test_a_wide_copy_is_used_for_steps_of_many_rows():
    x = torch.randn(16, 128, generator=torch.Generator().manual_seed(5)).bfloat16()
    codes = Int4(rounded(64, 128, Grid(4, 32)), None, torch.bfloat16)
    few, many = codes(x[:3]), codes(x)
    codes.widen()
    assert torch.equal(codes(x[:3]), few) and not torch.equal(codes(x), many)
    torch.testing.assert_close(codes(x), many, rtol=0.05, atol=0.3)
    assert codes.wide.blocks is not None


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_inputs_of_8_bits_are_those_that_quality_is_measured_with(rows):
    packed = rounded(64, 256, Grid(4, 64, symmetric=False))
    unit, x = Int4Inputs(packed, None, torch.float32), torch.randn(rows, 1, 256, generator=torch.Generator().manual_seed(5))
    want = rounded_inputs(x, "int8") @ packed.dense().T
    torch.testing.assert_close(unit(x), want, rtol=1e-4, atol=2e-3)
    unit.widen()
    found, again = unit(x), to_nearest(packed.dense(), Grid(8, -1)).dense()
    apart = float((found - want).norm() / want.norm())
    assert apart < (1e-4 if rows < 4 else 0.01) and not (rows >= 4 and apart < 1e-3)  # 4 bits rounded to 8 once more
    torch.testing.assert_close(found, rounded_inputs(x, "int8") @ (packed.dense() if rows < 4 else again).T, rtol=1e-4, atol=2e-2)


def test_what_4_bit_products_cannot_take_says_why():
    assert "groups of 32" in Int4.unfit(rounded(64, 64, Grid(4, 16))) and "multiples of 64 rows" in Int4.unfit(rounded(48, 64, Grid(4, 32)))
    assert not Int4.unfit(rounded(64, 64, Grid(4, 32)))

import pytest
import torch
from small_codes import rounded
from torch import nn

from bloomery.infer.codes import FEW
from bloomery.infer.int4 import Int4
from bloomery.infer.int8 import Int8
from bloomery.infer.weights import Report, packed_linear
from bloomery.num.grids import Grid

torch.set_num_threads(1)


@pytest.fixture
def threads(request):
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (3, 1), (16, 2), (1, 40), (2, 150)])
@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize(
    ("kind", "grid"),
    [(Int8, Grid(8, -1)), (Int4, Grid(4, 32)), (Int4, Grid(4, 64, symmetric=False)), (Int4, Grid(4, 128, symmetric=False))],
)
def test_products_on_codes_are_those_of_the_dense_weight(kind, grid, order, rows, tokens):
    packed, bias = rounded(64, 256, grid, order), torch.linspace(-1, 1, 64)
    unit = kind(packed, bias, torch.float32)
    x = torch.randn(rows, tokens, 256, generator=torch.Generator().manual_seed(5))
    want = x @ packed.dense().T + bias
    torch.testing.assert_close(unit(x), want, rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(unit.weight, packed.dense(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "form",
    ["fp32", "bf16", "int8", "w8a8", "int4", "int8 wide", "w8a8 wide", "int4 wide", "w4a8", "w4a8 wide", "int8 of fp32", "int4 of fp32"],
)
@pytest.mark.parametrize(("outputs", "inputs"), [(1536, 512), (128, 64), (256, 1024)])
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@torch.inference_mode()
def test_a_row_of_a_step_is_the_same_in_any_company(form, outputs, inputs, threads):
    """To the last bit, from as many rows on as a step has that hangs on nobody's company."""
    weights, _, more = form.partition(" ")
    dtype = torch.float32 if form.endswith("fp32") else torch.bfloat16
    unit = nn.Linear(inputs, outputs, bias=False, dtype=dtype)
    if form != "fp32":
        unit = packed_linear("linear", unit, weights, None, 64, dtype, Report())
    if more == "wide":
        unit.widen()
    x = torch.randn(140, 1, inputs, generator=torch.Generator().manual_seed(5)).to(dtype)
    alone = unit(x[:FEW])
    for rows in (*range(FEW, 12), 16, 31, 32, 33, 64, 97, 140):
        assert torch.equal(unit(x[:rows])[:FEW], alone), rows

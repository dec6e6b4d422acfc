"""Weights lie on 4-bit floats, scales on powers of two where asked, inputs on 8-bit floats."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.zeroquant_fp import ZeroQuantFP, swept
from bloomery.nn.inputs import rounded
from bloomery.num.grids import E2M1, Levels


@pytest.fixture
def problem() -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(64, 24), torch.randn(400, 64) @ (torch.randn(64, 64) * torch.logspace(0, -1.5, 64)[:, None])


def solved(method, unit: nn.Linear, x: torch.Tensor) -> nn.Linear:
    acc: dict = {}
    method.collect(acc, x, None, None)
    return method.solve(unit, acc, {}, None, None)


@pytest.mark.parametrize("scales", ["free", "power", "ratio"])
def test_weights_are_levels_times_scales_of_the_asked_kind(problem, scales):
    small = solved(ZeroQuantFP(group=16, scales=scales, inputs=""), *problem)
    scale = small.packed.scale_OG.float()
    ratio = small.weight.view(24, 4, 16) / scale[..., None]
    assert bool(torch.isclose(ratio[..., None], torch.tensor(E2M1), atol=1e-4).any(-1).all())
    powers = scale.log2() if scales == "power" else (scale / scale.amax(1, keepdim=True)).log2()
    if scales != "free":
        assert bool((powers - powers.round()).abs().max() < 1e-3)


def test_independent_inputs_leave_the_nearest_levels(problem):
    w = problem[0].weight.detach()
    grid = Levels(4, 16)
    codes, scale = swept(w, torch.eye(64), grid, 0.01)
    assert codes.equal(grid.round(w, (scale, None)))
    table = torch.tensor(E2M1)[codes.long() + 8].view(24, 4, 16) * scale.float()[..., None]
    every = torch.tensor(E2M1) * scale.float()[..., None, None]
    best = (w.view(24, 4, 16, 1) - every).abs().amin(-1)
    assert torch.allclose((w.view(24, 4, 16) - table).abs(), best, atol=1e-6)


def test_inputs_are_rounded_for_each_token_and_eight_bit_floats_keep_small_ones_beside_an_outlier(problem):
    unit, x = problem
    x = x / x.std()
    x[:, 3] *= 300
    small = {kind: solved(ZeroQuantFP(inputs=kind), unit, x) for kind in ("", "fp8", "int8")}
    assert torch.allclose(small["fp8"](x), small[""](rounded(x, "fp8")), atol=1e-4)
    errors = {kind: float((one(x) - small[""](x)).detach().norm()) for kind, one in small.items()}
    assert errors[""] == 0 < errors["fp8"] < errors["int8"]


def test_whole_numbers_are_gptqs_and_knobs_are_checked(problem):
    ours, theirs = solved(ZeroQuantFP("int4", "", 16), *problem), solved(GPTQ(4, 16), *problem)
    assert ours.weight.equal(theirs.weight)
    with pytest.raises(ValueError, match="are for weights fp4"):
        ZeroQuantFP("int4", scales="power")
    with pytest.raises(ValueError, match="damp must"):
        ZeroQuantFP(damp=0.0)

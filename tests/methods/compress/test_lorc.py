"""What is added is the error's best product, and the error falls with its rank."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.lorc import LoRC
from bloomery.methods.compress.magnitude import Magnitude
from bloomery.methods.compress.rtn import RTN


@pytest.fixture
def unit() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 20)


def test_the_weight_is_codes_and_the_truncated_decomposition_of_their_error(unit):
    inner = RTN(3, 16)
    plain, ours = (one.solve(unit, {}, {}, None, None) for one in (inner, LoRC(inner, rank=4)))
    u, s, v = torch.linalg.svd((unit.weight - plain.weight).detach())
    assert torch.allclose(ours.weight, plain.weight + (u[:, :4] * s[:4]) @ v[:4], atol=2e-4)
    assert ours.packed.bytes == plain.packed.bytes + 2 * 4 * (48 + 20) and ours.packed.codes_OI.equal(plain.packed.codes_OI)


def test_the_error_falls_with_rank_and_full_rank_leaves_almost_none(unit):
    errors = [
        float((LoRC(RTN(3, 16), rank).solve(unit, {}, {}, None, None).weight - unit.weight).detach().norm()) for rank in (1, 2, 8, 20)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.01 * errors[0]


def test_the_inner_method_sees_what_it_reads(unit):
    method, acc = LoRC(GPTQ(4, 16)), {}
    assert method.reads == ("x",) and method.bits == 4
    method.collect(acc, torch.randn(100, 48), None, None)
    assert method.solve(unit, acc, {"bits": 8}, None, None).packed.bits == 8
    with pytest.raises(BadInput, match="Magnitude makes none"):
        LoRC(Magnitude()).solve(unit, {}, {}, None, None)
    with pytest.raises(ValueError, match="rank must"):
        LoRC(rank=0)

"""What every compressor keeps to: one nn.Linear without any driver, deterministic, its input left alone, and codes where it has them."""

from __future__ import annotations

import pytest
import torch

from bloomery.core import catalog
from bloomery.core.rng import torch_rng
from bloomery.nn.packed import Quantized
from bloomery.seams import Rng


@pytest.mark.parametrize("name", list(catalog.entries("compress")))
def test_compressors_work_on_one_linear(name):
    method, g = catalog.build_method("compress", name), torch_rng(Rng((0, "contract")))
    assert set(method.reads) <= {"x", "y", "g"}
    unit = torch.nn.Linear(48, 20)
    with torch.no_grad():
        unit.weight.normal_(generator=g)
    x = torch.randn(200, 48, generator=g) @ torch.randn(48, 48, generator=g)
    before = unit.weight.detach().clone(), unit.bias.detach().clone(), x.clone()

    def solved() -> torch.nn.Module:
        acc: dict = {}
        for part in x.split(64):
            y = unit(part).detach() if "y" in method.reads else None
            method.collect(acc, part if "x" in method.reads else None, y, torch.ones(len(part), 20) if "g" in method.reads else None)
        return method.solve(unit, acc, {}, None, None)

    first, second = solved(), solved()
    assert all(a.equal(b) for a, b in zip(before, (unit.weight, unit.bias, x), strict=True))
    assert first(x).equal(second(x))
    assert float((first(x) - unit(x)).detach().norm() / unit(x).detach().norm()) < 0.5
    if isinstance(first, Quantized):
        one, other = first.packed.tensors(), second.packed.tensors()
        assert first.packed.dense().equal(first.weight) and all(t.equal(other[part]) for part, t in one.items())
        assert first.packed.bytes == sum(t.nbytes for t in one.values())

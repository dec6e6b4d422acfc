from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.methods.module.sltrain import SLTrain, dense
from bloomery.seams import Rng, Site

AT = Site("linear", "blocks.0.mlp.down", 0, 1)


def unit(rows: int = 12, columns: int = 10, seed: int = 0, **knobs) -> nn.Module:
    torch.manual_seed(0)
    m = SLTrain(**{"rank": 3, "density": 0.1, **knobs}).build(None, AT, nn.Linear(columns, rows), Rng((seed,)))
    m.b.data.normal_(generator=torch.Generator().manual_seed(1))
    return m


def test_forward_and_gradients_equal_the_dense_matrix_differentiated_by_torch():
    m, x = unit(), torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = m(x)
    y.square().sum().backward()
    found = [t.grad for t in (x, m.a, m.b, m.values, m.bias)]
    x2, a, b, v, bias = (t.detach().clone().requires_grad_() for t in (x, m.a, m.b, m.values, m.bias))
    w = m.scale * b @ a + torch.zeros(120).index_put((m.places.long(),), v).view(12, 10)
    again = x2 @ w.t() + bias
    again.square().sum().backward()
    torch.testing.assert_close(y, again)
    for one, other in zip(found, (x2, a, b, v, bias), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-5, atol=1e-5)
    assert torch.equal(m.plain().weight, dense(m.a, m.b, m.values, m.places, m.scale))


def test_numbers_are_those_of_the_formula_and_nothing_dense_is_kept():
    m = unit(40, 30, rank=4, density=0.05)
    assert sum(p.numel() for p in m.parameters()) - 40 == 4 * (40 + 30) + int(0.05 * 40 * 30)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        m(torch.randn(7, 30, requires_grad=True))
    assert (40, 30) not in kept and kept


def test_places_are_drawn_once_each_and_depend_on_the_stream():
    places = unit(60, 50).places
    assert len(places.unique()) == len(places) == 300 and places.dtype == torch.int32
    assert torch.equal(places, unit(60, 50).places) and not torch.equal(places, unit(60, 50, seed=1).places)
    fresh = SLTrain(3, spectral=False).build(None, AT, nn.Linear(50, 60), Rng((0,)))
    assert not fresh.b.any() and float(fresh.values.detach().abs().max()) <= 50**-0.5  # at first W is its sparse part
    for knobs in ({"rank": 0}, {"density": 1.0}, {"alpha": 0}):
        with pytest.raises(ValueError, match="must be"):
            SLTrain(**knobs)


def test_it_begins_as_the_best_product_with_what_is_missing_at_its_places():
    old = nn.Linear(10, 12)
    m = SLTrain(3, density=0.25, alpha=6.0).build(None, AT, old, Rng((0,)))
    u, s, v = torch.linalg.svd(old.weight.detach())
    want = u[:, :3] * s[:3] @ v[:3]
    want.view(-1)[m.places.long()] = old.weight.detach().view(-1)[m.places.long()]
    torch.testing.assert_close(m.plain().weight, want, rtol=1e-4, atol=1e-5)
    assert m.bias is old.bias and m.scale == 2.0

"""Fira against the paper's formulas written out, at full rank against the inner optimizer, and its limiter."""

from __future__ import annotations

import itertools

import pytest
import torch

from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.optim.fira import Fira
from bloomery.methods.optim.galore import GaLore
from bloomery.methods.optim.lion import Lion
from bloomery.seams import Rng

RNG = Rng((0,))


def gradients(shape: tuple[int, int], count: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_follows_the_formulas(shape: tuple[int, int]) -> None:
    method, wide = Fira(rank=2, gap=4, inner=AdamW(0.9, 0.95, 1e-8)), shape[0] < shape[1]
    p = torch.zeros(shape, dtype=torch.float64)
    s, m, v, before = method.init(p), 0.0, 0.0, None
    for t, grad in enumerate(gradients(shape, 10), 1):
        if (t - 1) % 4 == 0:
            u, _, vh = torch.linalg.svd(grad, full_matrices=False)
            basis = u[:, :2] if wide else vh[:2].T
            basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        turned = grad if wide else grad.T  # (short, long), so that there is one case to write
        r = basis.T @ turned
        m, v = 0.9 * m + 0.1 * r, 0.95 * v + 0.05 * r * r
        psi = (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        rest = (turned - basis @ r) * (psi.norm(dim=0) / r.norm(dim=0))
        if before is not None and rest.norm() > 1.01 * before:
            rest = rest / rest.norm() * 1.01 * before
        before = rest.norm()
        wanted = basis @ psi + rest
        found = method.direction(grad.clone(), p, s, t, RNG)
        assert torch.allclose(found if wide else found.T, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("inner", [AdamW(), Lion()])
def test_at_full_rank_it_is_the_inner_optimizer(inner) -> None:
    p = torch.randn(6, 9, dtype=torch.float64)
    method = Fira(rank=6, inner=inner)
    a, b = method.init(p), inner.init(p)
    for t, grad in enumerate(gradients((6, 9), 5), 1):
        assert torch.equal(method.direction(grad, p, a, t, RNG), inner.direction(grad, p, b, t, RNG))


def test_a_jump_of_the_gradient_never_raises_the_rest_by_more_than_the_limit() -> None:
    method, p = Fira(rank=3, gap=100, inner=AdamW()), torch.zeros(10, 16, dtype=torch.float64)
    s, norms = method.init(p), []
    for t, grad in enumerate(gradients((10, 16), 40), 1):
        found = method.direction(grad * (1000.0 if t % 7 == 0 else 1.0), p, s, t, RNG)
        rest = found - s["basis"] @ (s["basis"].T @ found)
        norms.append(float(rest.norm()))
        assert norms[-1] == pytest.approx(float(s["rest"]))
    assert all(b <= 1.01 * a * (1 + 1e-9) for a, b in itertools.pairwise(norms)) and max(norms) > 0
    free = Fira(rank=3, gap=100, growth=1e9, inner=AdamW())
    s, loose = free.init(p), []
    for t, grad in enumerate(gradients((10, 16), 40), 1):
        free.direction(grad * (1000.0 if t % 7 == 0 else 1.0), p, s, t, RNG)
        loose.append(float(s["rest"]))
    assert max(b / a for a, b in itertools.pairwise(loose)) > 1.5


def test_the_state_is_galores_and_one_number() -> None:
    p = torch.zeros(24, 60)
    count = [sum(x.numel() for x in method.init(p).values()) for method in (Fira(rank=6, inner=AdamW()), GaLore(rank=6, inner=AdamW()))]
    assert count[0] == count[1] + 1
    with pytest.raises(ValueError, match="growth"):
        Fira(growth=0.9)


@pytest.mark.parametrize("rank", [32, 40])
def test_columns_without_a_gradient_give_no_nan_and_change_nothing_for_the_others(rank: int) -> None:
    """The third step reaches half of the columns, as with hidden units that are switched off; at rank 32 a step is longer than 4."""
    method, p = Fira(rank=rank, gap=100, growth=1e9, inner=AdamW()), torch.zeros(40, 64)
    a, b = method.init(p), method.init(p)
    first, *more = (one.float() for one in gradients((40, 64), 7))
    for t, grad in enumerate((first + one / 10 for one in more), 1):
        holed = grad.clone()
        if t == 3:
            holed[:, 32:] = 0
        found, whole = method.direction(holed, p, a, t, RNG), method.direction(grad, p, b, t, RNG)
        assert bool(torch.isfinite(found).all()) and bool(torch.isfinite(a["rest"]))
        assert torch.equal(found[:, :32], whole[:, :32])
        assert t < 3 or not torch.equal(found[:, 32:], whole[:, 32:])
    tiny = method.direction(torch.full((40, 64), 1e-38), p, a, 7, RNG)
    assert bool(torch.isfinite(tiny).all())

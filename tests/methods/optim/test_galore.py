"""GaLore against the paper's steps written out, at full rank against the inner optimizer, and its state counted."""

from __future__ import annotations

import pytest
import torch

from bloomery.core import catalog
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.optim.galore import GaLore
from bloomery.methods.optim.lion import Lion
from bloomery.seams import Rng

RNG = Rng((0,))


def gradients(shape: tuple[int, int], count: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_follows_adam_in_the_space_of_the_leading_singular_vectors(shape: tuple[int, int]) -> None:
    method, rank = GaLore(rank=2, gap=4, alpha=0.25, inner=AdamW(0.9, 0.95, 1e-8)), 2
    p = torch.zeros(shape, dtype=torch.float64)
    s, m, v, wide = method.init(p), 0.0, 0.0, shape[0] < shape[1]
    for t, grad in enumerate(gradients(shape, 10), 1):
        if t in (1, 5, 9):
            u, _, vh = torch.linalg.svd(grad, full_matrices=False)
            basis = u[:, :rank] if wide else vh[:rank].T
            basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        r = basis.T @ grad if wide else grad @ basis
        m, v = 0.9 * m + 0.1 * r, 0.95 * v + 0.05 * r * r
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        wanted = 0.25 * (basis @ step if wide else step @ basis.T)
        assert torch.allclose(method.direction(grad.clone(), p, s, t, RNG), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("inner", [AdamW(), Lion()])
def test_at_full_rank_it_is_the_inner_optimizer_and_the_inner_one_sees_the_parameter(inner) -> None:
    class Pull:
        scope = "element"

        def init(self, like):
            return {}

        def direction(self, g, p, s, t, rng):
            return p

    p = torch.randn(6, 9, dtype=torch.float64)
    method = GaLore(rank=6, alpha=1.0, gap=2, inner=inner)
    a, b = method.init(p), inner.init(p)
    for t, grad in enumerate(gradients((6, 9), 5), 1):
        assert torch.equal(method.direction(grad, p, a, t, RNG), inner.direction(grad, p, b, t, RNG))
    pulled = GaLore(rank=3, alpha=1.0, inner=Pull())
    found = pulled.direction(p, p, pulled.init(p), 1, RNG)
    assert int(torch.linalg.matrix_rank(found)) == 3 and float((found - p).norm()) < float(p.norm())


def test_the_step_has_the_rank_and_the_state_the_papers_size() -> None:
    m, n, rank = 24, 60, 6
    method = catalog.build_method("optim", {"galore": {"rank": rank}})
    p = torch.zeros(m, n)
    s = method.init(p)
    assert sum(x.numel() for x in s.values()) == m * rank + 2 * n * rank  # basis, and two moments of the projected gradient
    assert int(torch.linalg.matrix_rank(method.direction(torch.randn(m, n), p, s, 1, RNG))) == rank
    assert sorted(s) == ["basis", "inner.m", "inner.v"]
    with pytest.raises(ValueError, match="rank"):
        GaLore(rank=0)

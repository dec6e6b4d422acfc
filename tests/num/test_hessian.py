"""Second moments over chunks and blocks, their factor, and the sweep over columns."""

from __future__ import annotations

import pytest
import torch

from bloomery.num import hessian
from bloomery.num.hessian import factor, gather, moments, output_error, sweep, upper


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("side", [8, 512])
def test_blocks_above_the_diagonal_and_their_mirror_are_the_whole(monkeypatch, side, precision):
    monkeypatch.setattr(hessian, "SIDE", side)
    monkeypatch.setattr(hessian, "TOGETHER", 16)
    torch.manual_seed(0)
    x, acc = torch.randn(100, 20), {}
    for part in x.split([1, 40, 0, 59]):
        gather(acc, part, precision)
    found = moments(acc, "a test")
    wanted = x.T @ x / 100
    assert acc["rows"] == 100 and torch.allclose(found, found.T, atol=1e-6)
    assert float((found - wanted).norm() / wanted.norm()) < (1e-6 if precision == "float32" else 0.01)
    assert moments(acc, "a test").equal(found), "asked twice it is the same"


def test_sums_of_rounded_products_are_not_rounded(monkeypatch):
    """In bfloat16 a sum of 1 and 2^-9 would stay 1; chunks are added in fp32."""
    monkeypatch.setattr(hessian, "TOGETHER", 1)
    acc: dict = {}
    gather(acc, torch.tensor([[1.0]] + [[2.0**-5]] * 64), "bfloat16")
    assert float(moments(acc, "a test")) * 65 == pytest.approx(1 + 64 * 2.0**-10, rel=1e-6)


def test_factors_are_of_the_inverse_and_of_the_matrix():
    torch.manual_seed(0)
    x = torch.randn(200, 12, dtype=torch.float64)
    h = x.T @ x / 200
    damped = h + 0.01 * h.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    u, r = factor(h, 0.01), upper(h, 0.01)
    assert torch.allclose(u.T @ u, torch.linalg.inv(damped)) and torch.allclose(r @ r.T, damped)
    assert u.equal(u.triu()) and r.equal(r.triu())


def test_a_sweep_leaves_less_error_than_settling_alone_and_blocks_change_nothing():
    torch.manual_seed(0)
    x = torch.randn(300, 24, dtype=torch.float64) @ torch.randn(24, 24, dtype=torch.float64)
    h, w = x.T @ x / 300, torch.randn(6, 24, dtype=torch.float64)
    found = []
    for step in (1, 5, 24):
        w_IO, seen = w.T.contiguous(), []

        def begin(start, w_JO, u_JJ, seen=seen):
            seen.append((start, len(w_JO)))

        sweep(w_IO, factor(h, 0.01), lambda j, w_O: w_O.round(), step, begin)
        assert seen == [(i, min(step, 24 - i)) for i in range(0, 24, step)]
        found.append(w_IO.T)
        assert w_IO.equal(w_IO.round())
    assert found[0].equal(found[1]) and found[1].equal(found[2])
    assert output_error(found[0] - w, h).sum() < 0.7 * output_error(w.round() - w, h).sum()


def test_nothing_seen_and_nonsense_are_refused():
    with pytest.raises(ValueError, match="svd needs inputs"):
        moments({}, "svd")
    acc: dict = {}
    gather(acc, torch.full((3, 4), float("nan")))
    with pytest.raises(ValueError, match="not finite"):
        moments(acc, "svd")
    with pytest.raises(ValueError, match="not finite"):
        upper(torch.full((2, 2), float("nan")), 0.01)

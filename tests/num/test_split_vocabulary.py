"""Cross-entropy over parts of a vocabulary. Two ranks are compared with one process in tests/train/test_mesh.py."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from bloomery.num import split_vocabulary
from bloomery.num.cross_entropy import linear_cross_entropy
from bloomery.num.split_vocabulary import split_cross_entropy


class Parts:
    """A group of ranks that are played one after the other: what each tells is kept, and given to all the next time."""

    def __init__(self, n: int) -> None:
        self.n, self.at, self.said = n, 0, {}

    def size(self) -> int:
        return self.n

    def rank(self) -> int:
        return self.at


@pytest.mark.parametrize(("bias", "cap", "chunk"), [(False, 0.0, 3), (True, 0.0, 8), (True, 2.0, 5)])
def test_parts_together_are_the_whole_vocabulary(monkeypatch: pytest.MonkeyPatch, bias: bool, cap: float, chunk: int) -> None:
    torch.manual_seed(0)
    h, w, b = (torch.randn(8, 6, dtype=torch.float64), torch.randn(12, 6, dtype=torch.float64), torch.randn(12, dtype=torch.float64))
    h[0] *= 400  # a maximum far above the others, on one part alone
    targets, weights = torch.randint(0, 12, (8,)), torch.rand(8, dtype=torch.float64)
    b = b if bias else None
    whole = [t if t is None else t.clone().requires_grad_() for t in (h, w, b)]
    wanted = linear_cross_entropy(whole[0], whole[1], targets, weights, chunk, whole[2], cap)
    (3 * wanted).backward()

    group, sums = Parts(3), []

    def told(figures: torch.Tensor, group: Parts) -> torch.Tensor:
        calls = group.said.setdefault(group.at, [])
        calls.append(figures)
        number = group.count = getattr(group, "count", -1) + 1
        return torch.stack([group.said[rank][number] if number < len(group.said.get(rank, [])) else figures for rank in range(3)])

    monkeypatch.setattr(split_vocabulary, "told", told)
    monkeypatch.setattr(dist, "all_reduce", lambda t, group: sums.append(t))
    for final in (False, True):  # the first time ranks tell what they know, the second time all know it
        found = []
        for group.at in range(3):
            rows, group.count = slice(4 * group.at, 4 * group.at + 4), -1
            if not final:
                group.said.pop(group.at, None)
            own = [h.clone().requires_grad_(), w[rows].clone().requires_grad_(), None if b is None else b[rows].clone().requires_grad_()]
            found.append((split_cross_entropy(own[0], own[1], targets, weights, group, chunk, own[2], cap), own, rows))
    for loss, own, rows in found:
        (3 * loss).backward()
        assert float(loss) == pytest.approx(float(wanted), rel=1e-12)
        assert torch.allclose(own[1].grad, whole[1].grad[rows], atol=1e-9)
        assert b is None or torch.allclose(own[2].grad, whole[2].grad[rows], atol=1e-9)
    assert torch.allclose(3 * sum(sums[-3:]), whole[0].grad, atol=1e-9)


def test_one_part_without_gradients_is_the_plain_sum(tmp_path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        h, w, targets, weights = torch.randn(5, 4), torch.randn(7, 4), torch.randint(0, 7, (5,)), torch.rand(5)
        with torch.no_grad():
            found = split_cross_entropy(h, w, targets, weights, dist.group.WORLD, 2)
        assert float(found) == pytest.approx(float(linear_cross_entropy(h, w, targets, weights)), rel=1e-6)
    finally:
        dist.destroy_process_group()

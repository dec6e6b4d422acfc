"""The nearest product of low rank, of either orientation and of damaged ranks."""

from __future__ import annotations

import pytest
import torch

from bloomery.num.lowrank import thin


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (9, 9)])
@pytest.mark.parametrize("rank", [1, 5, 9])
def test_it_is_the_truncated_decomposition(shape, rank):
    w = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    left, right = thin(w, rank)
    u, s, v = torch.linalg.svd(w.double(), full_matrices=False)
    assert left.shape == (shape[0], rank) and right.shape == (rank, shape[1])
    assert torch.allclose(left @ right, (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-6)
    assert torch.allclose(left.norm(dim=0), right.norm(dim=1), rtol=1e-3), "both factors are of one size"


def test_a_matrix_of_lower_rank_gives_numbers_and_zero_gives_zero():
    w = torch.outer(torch.arange(1.0, 7), torch.arange(1.0, 5))
    left, right = thin(w, 3)
    assert torch.allclose((left @ right).float(), w, atol=1e-3)
    left, right = thin(torch.zeros(4, 6), 2)
    assert not (left @ right).any() and bool(left.isfinite().all() and right.isfinite().all())

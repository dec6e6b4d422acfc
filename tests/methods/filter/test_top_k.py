import pytest
import torch

from bloomery.methods.filter.top_k import TopK


def leave(k, logits):
    return TopK(k).filter(torch.zeros(len(logits), 1, dtype=torch.int64), {"logits:net": logits})


@pytest.mark.parametrize("k", [1, 2, 7, 50, 80])
def test_exact_against_sorting(k):
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(k))
    for row, left in zip(logits, leave(k, logits), strict=True):
        kept = set(row.argsort(descending=True)[:k].tolist())
        assert {i for i in range(50) if left[i] > float("-inf")} == kept
        assert all(left[i] == row[i] for i in kept)


def test_property_transformers_agrees():
    from transformers import TopKLogitsWarper

    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(leave(9, logits), TopKLogitsWarper(9)(None, logits))


def test_equals_of_the_last_kept_stay():
    assert leave(2, torch.tensor([[1.0, 5.0, 3.0, 3.0]])).tolist() == [[float("-inf"), 5, 3, 3]]


def test_bad_knob():
    with pytest.raises(ValueError, match="k must be at least 1"):
        TopK(0)

import itertools

import pytest
import torch

from bloomery.methods.filter.top_p import TopP


def leave(p, logits):
    return TopP(p).filter(torch.zeros(len(logits), 1, dtype=torch.int64), {"logits:net": logits})


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("vocab", [1, 50, 700])
def test_exact_smallest_set_that_reaches_p(p, vocab):
    logits = torch.randn(6, vocab, generator=torch.Generator().manual_seed(vocab)) * 2
    for row, left in zip(logits, leave(p, logits), strict=True):
        shares, kept, reached = row.double().softmax(-1), set(), 0.0
        for i in row.argsort(descending=True).tolist():
            if reached >= p:
                break
            kept.add(i)
            reached += shares[i].item()
        assert {i for i in range(vocab) if left[i] > float("-inf")} == kept
        assert all(left[i] == row[i] for i in kept)


def test_exact_on_a_worked_example():
    shares = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]])
    assert (leave(0.75, shares.log()) > float("-inf")).tolist() == [[True, True, False, False], [False, True, True, True]]


def test_property_transformers_agrees_also_after_top_k():
    from transformers import TopPLogitsWarper

    logits = torch.randn(6, 300, generator=torch.Generator().manual_seed(1)) * 3
    logits = logits.masked_fill(logits < logits.topk(40).values[:, -1:], float("-inf"))
    assert torch.equal(leave(0.8, logits), TopPLogitsWarper(0.8)(None, logits))


def test_property_more_p_keeps_more():
    logits = torch.randn(8, 200, generator=torch.Generator().manual_seed(2)) * 3
    sizes = [(leave(p, logits) > float("-inf")).sum(-1) for p in (0.1, 0.5, 0.9, 0.99, 1.0)]
    assert (sizes[0] >= 1).all() and all((a <= b).all() for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("p", [0.0, 1.5, float("nan")])
def test_bad_knob(p):
    with pytest.raises(ValueError, match="p must be above 0"):
        TopP(p)

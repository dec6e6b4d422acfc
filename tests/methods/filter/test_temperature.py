import itertools

import pytest
import torch

from bloomery.methods.filter.temperature import Temperature

LOGITS = torch.randn(5, 50, generator=torch.Generator().manual_seed(0)) * 3


def leave(method, logits=LOGITS):
    return method.filter(torch.zeros(len(logits), 1, dtype=torch.int64), {"logits:net": logits})


def test_exact():
    assert torch.equal(leave(Temperature(1.0)), LOGITS)
    assert torch.equal(leave(Temperature(0.5)).softmax(-1), (LOGITS * 2).softmax(-1))


def test_zero_leaves_the_first_of_the_most_likely():
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    assert leave(Temperature(0.0), logits).softmax(-1).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_property_a_lower_temperature_has_less_entropy_and_the_same_order():
    entropies = []
    for value in (0.1, 0.5, 1.0, 2.0, 10.0):
        p = leave(Temperature(value)).softmax(-1)
        entropies.append(torch.distributions.Categorical(p).entropy())
        assert torch.equal(p.argmax(-1), LOGITS.argmax(-1))
    assert all((a < b).all() for a, b in itertools.pairwise(entropies))


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_bad_knob(value):
    with pytest.raises(ValueError, match="value must be"):
        Temperature(value)

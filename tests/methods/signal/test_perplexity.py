from __future__ import annotations

import math

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal.perplexity import Perplexity
from bloomery.seams import Doc


class Uniform:
    """Every character a token, of probability 1 / 8."""

    def score(self, pairs, role):
        assert role == "reference"
        return [(-math.log(8),) * len(text) for _, text in pairs]


def test_exact_for_a_uniform_model():
    found = Perplexity().columns([Doc("", "abcd"), Doc("", "é"), Doc("", "")], Uniform())
    assert found["perplexity"] == pytest.approx([8, 8, 1])
    assert found["nats"] == pytest.approx([math.log(8), math.log(8) / 2, 0]) and found["tokens"] == [4, 1, 0]


def test_property_it_asks_for_its_model():
    assert Perplexity.needs == ("score:reference",) and set(Perplexity().columns([], None)) == {"perplexity", "nats", "tokens"}
    with pytest.raises(BadInput, match="reference"):
        Perplexity().columns([Doc("", "a")], None)

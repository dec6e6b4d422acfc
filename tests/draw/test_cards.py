"""What is read out of cards, whatever they lack."""

from __future__ import annotations

import math

import pytest

from bloomery.draw.cards import facts, origin, parents, real, trained
from bloomery.draw.head import figures, lede


def card(address: str, kind: str, *above: str, **found) -> dict:
    return {"address": address, "kind": kind, "step": address, "stage": kind, "inputs": {"of": list(above)}, "facts": found}


CARDS = [
    card("old", "corpus", documents=5, bytes=50), card("t", "tokens", "old"), card("lm", "model", "t", tokens=9, parameters=3),
    card("new", "corpus", documents=7, bytes=70), card("copy", "model", "lm", "copy", parameters=3),
]  # fmt: skip


@pytest.mark.parametrize(
    "value, number", [(1, 1.0), (2.5, 2.5), (True, None), ("1", None), (None, None), (math.nan, None), (math.inf, None)]
)
def test_real(value, number):
    assert real(value) == number


def test_origin_is_an_ancestor_and_circles_end():
    assert origin(CARDS, CARDS[2], "corpus")["address"] == "old" and origin(CARDS, CARDS[4], "corpus")["address"] == "old"
    assert origin(CARDS, None, "corpus")["address"] == "new" and origin(CARDS, CARDS[2], "chats") is None


def test_the_model_that_was_trained_comes_before_its_copies():
    assert trained(CARDS)["address"] == "lm" and trained(CARDS[4:])["address"] == "copy" and trained([]) is None
    assert facts({"facts": None}) == {} and parents({"inputs": {"a": "x", "b": ["y", 3], "c": None}}) == ["x", "y"]


def test_first_screen_of_the_right_corpus():
    assert lede(CARDS, []) == ["A model with 3 parameters, trained on 9 tokens from 5 documents (50\u202fB of text)."]
    assert [one["name"] for row in figures(CARDS, []) for one in row] == ["parameters", "tokens trained on", "text"]
    assert lede([], []) == [] and figures([], []) == []

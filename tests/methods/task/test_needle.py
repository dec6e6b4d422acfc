"""Codes in a long text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from long_text import Words, source

from bloomery.methods.task.needle import PLACES, Needle
from bloomery.seams import Episode, Rng

RNG = Rng((0, "task"))


@settings(max_examples=25, deadline=None)
@given(st.integers(120, 900), st.integers(1, 6), st.integers(2, 9))
def test_the_text_fills_the_context_and_no_more_and_holds_every_code_once(context, keys, count):
    items = list(Needle(count=count, keys=keys).items(source(context), RNG))
    assert len(items) == count
    for item in items:
        used = len(Words().encode(item.prompt)) + item.limit
        assert context - 16 <= used < context
        text = item.prompt.partition("\n\nQuestion")[0]
        codes = re.findall(r"The code of (\w+) is (\d+)\.", text)
        assert len(codes) == len(dict(codes)) == keys and len(re.findall(r"\d+", text)) == keys
        asked = re.search(r"belongs to (\w+)\?", item.prompt)[1]
        assert dict(codes)[asked] == item.target and asked in PLACES


def test_depths_run_from_the_beginning_to_the_end():
    items = list(Needle(count=5).items(source(600), RNG))
    at = [item.prompt.index(item.target) / item.prompt.index("\n\nQuestion") for item in items]
    assert at[0] < 0.05 and at[-1] > 0.95 and at == sorted(at) and abs(at[2] - 0.5) < 0.1


@pytest.mark.parametrize(("said", "score"), [(" {}.", 1), (" {}0", 0), ("", 0), (" not 1 but {}", 1)])
def test_a_code_counts_as_a_number_of_its_own(said, score):
    item = next(Needle().items(source(300), RNG))
    assert Needle().grade(item, Episode("a", item.id, said.format(item.target)), None).score == score


def test_a_context_too_short_gives_no_items_and_knobs_are_checked():
    assert list(Needle().items(source(30), RNG)) == []
    assert len(Words().encode(next(Needle(tokens=200).items(source(4000), RNG)).prompt)) < 200
    with pytest.raises(ValueError, match="keys 1 to"):
        Needle(keys=99)

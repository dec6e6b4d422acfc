"""Chains of assignments in a long text."""

from __future__ import annotations

import re

import pytest
from long_text import Words, source

from bloomery.methods.task.variable_tracking import VariableTracking
from bloomery.seams import Episode, Rng

RNG = Rng((0, "task"))


def test_who_runs_the_assignments_in_order_finds_the_names():
    for item in VariableTracking(count=8, hops=4, chains=3).items(source(700), RNG):
        values: dict[str, str] = {}
        links = re.findall(r"Set (\w+) to (\w+)\.", item.prompt)
        for name, what in links:
            assert name not in values
            values[name] = what if what.isdigit() else values[what]
        asked = re.search(r"have the value (\d+)\?", item.prompt)[1]
        assert len(links) == 15 and {name for name, value in values.items() if value == asked} == set(item.target.split(", "))
        assert len(Words().encode(item.prompt)) + item.limit < 700


@pytest.mark.parametrize(
    ("said", "score"), [(" ABC, DEF", 1), (" DEF and ABC.", 1), (" ABC", 0.5), (" ABC, DEF, XYZ", 2 / 3), ("", 0), (" ABCD", 0)]
)
def test_a_name_too_many_costs_as_much_as_one_too_few(said, score):
    item = next(VariableTracking().items(source(400), RNG))
    item = item.__class__(**{**vars(item), "target": "ABC, DEF"})
    assert VariableTracking().grade(item, Episode("a", item.id, said), None).score == pytest.approx(score)


def test_a_context_too_short_gives_no_items():
    assert list(VariableTracking().items(source(60), RNG)) == []
    with pytest.raises(ValueError, match="hops"):
        VariableTracking(hops=0)

"""Ways through generated graphs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.data.graphs import joined
from bloomery.methods.task.planning_graphs import PlanningGraphs, item_of
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "plan"))


class Fixed:
    """Draws that change nothing."""

    def shuffle(self, names):
        pass

    def sample(self, names, count):
        return list(names)


GRAPH = joined(["an", "bo", "cy", "du"], {(0, 1), (1, 2), (2, 3), (0, 3)})  # a ring
ITEM = item_of("0:plain", "ring", GRAPH, ["an", "bo", "cy"], 9, Fixed())


@pytest.mark.parametrize(
    ("text", "score", "parts"),
    [
        (" an, bo, cy.", 1, {"shortest": 1, "looped": 0, "invalid": 0}), (" Go to DU, then to cy", 1, {"shortest": 1, "invalid": 0}),
        (" an, bo, an, du, cy", 1, {"shortest": 0, "looped": 1, "invalid": 0}), (" an, cy", 0, {"invalid": 1, "looped": 0}),
        (" an, bo", 0, {"invalid": 0}), (" an, bo, cy, du", 0, {"invalid": 0}), (" an, bo, cy, bo, an", 0, {"looped": 1}),
        (" an bo cy du an bo cy", 1, {"shortest": 0, "looped": 1}), ("", 0, {"said": 0}), (" I cannot tell.", 0, {"said": 0}),
        (" du, bo, cy", 0, {"invalid": 1}), ("\nan, bo, cy\nan, du, cy", 1, {"shortest": 1, "looped": 0}),
    ],
)  # fmt: skip
def test_exact_a_way_counts_where_every_step_is_there(text, score, parts):
    grade = PlanningGraphs().grade(ITEM, Episode("e", "e", text), None)
    assert grade.score == score and {name: grade.parts[name] for name in parts} == parts


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 16), st.integers(0, 99))
def test_property_references_are_shortest_and_the_three_forms_are_one_group(places, seed):
    task = PlanningGraphs(count=4, places=places)
    items = list(task.items(Source(), Rng((seed,))))
    rows = [(item, None, task.grade(item, Episode("e", "e", item.target), None)) for item in items]
    found = task.summary(rows, RNG)
    assert found["plan_reached"] == found["plan_shortest"] == 1 and found["plan_looped"] == found["plan_invalid_steps"] == 0
    assert items == list(task.items(Source(), Rng((seed,)))) and len({item.group for item in items}) == 4
    for item in items:
        start, goal, least = json.loads(item.tests)["way"]
        assert least > 2 and item.prompt.endswith(f"from {start} to {goal}? Name every place in order.\nAnswer:")
        assert ("is closed" in item.prompt) == item.id.endswith("detour")


def test_a_control_is_the_same_graph_under_other_names():
    plain, control = (item for item in PlanningGraphs(count=1).items(Source(), RNG))
    first, second = (json.loads(item.tests) for item in (plain, control))
    assert not set(first["graph"]) & set(second["graph"]) or first["graph"] != second["graph"]
    assert sorted(map(len, first["graph"].values())) == sorted(map(len, second["graph"].values())) and first["way"][2] == second["way"][2]


def test_who_goes_on_to_any_neighbour_is_exposed_where_the_way_is_closed():
    """The way that was shortest before a passage closed is invalid on a detour."""
    task = PlanningGraphs(count=4, kinds=("ring",))
    rows, ways = [], {}
    for item in task.items(Source(), RNG):
        ways.setdefault(item.group, item.target)
        if not item.id.endswith("control"):
            rows.append((item, None, task.grade(item, Episode("e", "e", ways[item.group]), None)))
    found = task.summary(rows, RNG)
    assert found["plan_reached"] == 0.5 and found["plan_reached_detour"] == 0 and 0 < found["plan_invalid_steps"] < 1


def test_knobs():
    for knobs in ({"kinds": ("star",)}, {"kinds": ()}, {"places": 4}, {"count": 0}):
        with pytest.raises(ValueError, match=r"kinds must|places 5 to 16"):
            PlanningGraphs(**knobs)

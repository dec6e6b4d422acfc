"""Groups against every possible division of a few devices, and what divisions must keep to."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.methods.planner.flexsp import Flexsp, _Cost
from bloomery.nn.config import Config
from bloomery.num.clusters import cluster_of

CFG = Config(32000, 4096, 32, 32, 32, 11008, 4096, tied=False)
ON = cluster_of("nodes=1,gpus=4")


def divisions(n: int, most: int) -> list[tuple[int, ...]]:
    """All ways to write n as powers of two, the largest first."""
    if n == 0:
        return [()]
    return [(d, *rest) for d in (1, 2, 4) if d <= min(n, most) for rest in divisions(n - d, d)]


def exhaustive(lengths: list[int], cost: _Cost) -> float:
    """The end of the slowest group, over every division and every way to give out the sequences."""
    best = math.inf
    for groups in divisions(4, 4):
        for places in product(range(len(groups)), repeat=len(lengths)):
            mine = [[length for length, at in zip(lengths, places, strict=True) if at == g] for g in range(len(groups))]
            if all(sum(one) <= cost.room * d for one, d in zip(mine, groups, strict=True)):
                ends = [cost.seconds(d, sum(one), sum(x * x for x in one)) for one, d in zip(mine, groups, strict=True)]
                best = min(best, max(ends))
    return best


@pytest.mark.parametrize("lengths", [[20000, 5000, 4000, 3000, 2000], [12000, 12000, 1000, 1000], [5000] * 5, [100, 200, 300]])
def test_a_few_sequences_end_nearly_as_soon_as_they_can(lengths: list[int]) -> None:
    cost = _Cost(CFG, max(lengths), ON)
    groups, took, share = cost.divided(sorted(enumerate(lengths), key=lambda one: -one[1]))
    assert sum(groups) == 4 and sorted(i for mine in share for i in mine) == list(range(len(lengths)))
    best = exhaustive(lengths, cost)
    assert best <= took * (1 + 1e-9) and took <= 1.2 * best


def test_unlike_lengths_get_unlike_groups_that_beat_every_even_division() -> None:
    """The paper's case: one long sequence among many short ones."""
    job = {"config": CFG, "lengths": [30000] + [1000] * 180}
    found = Flexsp(more=0).plan(job, vars(cluster_of("nodes=2,gpus=8")), None)
    degrees = {one["degree"] for micro in found["groups"] for one in micro}
    assert len(degrees) > 1 and found["seconds"] < found["meshes"][0]["seconds"]


@given(st.lists(st.integers(1, 20000), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_every_sequence_is_given_out_once_and_groups_hold_theirs(lengths: list[int]) -> None:
    found = Flexsp().plan({"config": CFG, "lengths": lengths}, vars(ON), None)
    if not found["groups"]:
        assert not found["meshes"] and max(lengths) > _Cost(CFG, max(lengths), ON).room * 4
        return
    given_out = [i for micro in found["groups"] for one in micro for i in one["sequences"]]
    assert sorted(given_out) == list(range(len(lengths)))
    room = _Cost(CFG, max(lengths), ON).room
    for micro in found["groups"]:
        assert sum(one["degree"] for one in micro) <= 4
        assert all(sum(lengths[i] for i in one["sequences"]) <= room * one["degree"] for one in micro)
    assert not found["meshes"] or found["seconds"] <= found["meshes"][0]["seconds"] * (1 + 1e-9)


def test_what_nobody_can_hold_has_no_plan() -> None:
    found = Flexsp().plan({"config": CFG, "lengths": [10**9]}, vars(ON), None)
    assert found == {"groups": [], "seconds": math.inf, "meshes": []}
    with pytest.raises(ValueError, match="more must not be negative"):
        Flexsp(more=-1)

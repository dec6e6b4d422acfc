"""Stages over clusters with unlike networks: blocks against every division, and which axis reaches over the slow links."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.methods.planner.holmes import Holmes, divided
from bloomery.nn.config import Config
from bloomery.num.clusters import SHARE, cluster_of

CFG = Config(32000, 2048, 24, 16, 16, 5504, 1024, tied=False)
JOB = {"config": CFG, "rows": 256, "context": 1024}
FAST, SLOW = vars(cluster_of("nodes=2,gpus=8,inter=400Gb/s")), vars(cluster_of("nodes=2,gpus=8,inter=10Gb/s"))


@given(st.integers(0, 6), st.lists(st.floats(0.1, 10), min_size=1, max_size=4), st.data())
def test_no_other_division_of_blocks_ends_sooner(more: int, each: list[float], data: st.DataObject) -> None:
    blocks = len(each) + more
    once = data.draw(st.lists(st.floats(0, 10), min_size=len(each), max_size=len(each)))

    def end(parts: list[int]) -> float:
        return max(n * one + extra for n, one, extra in zip(parts, each, once, strict=True))

    found = divided(blocks, each, once)
    assert sum(found) == blocks and min(found) >= 1
    cuts = ([0, *at, blocks] for at in combinations(range(1, blocks), len(each) - 1))
    assert end(found) <= min(end([b - a for a, b in pairwise(one)]) for one in cuts) * (1 + 1e-12)


def test_the_slow_network_gets_fewer_blocks_and_only_the_pipeline_reaches_over() -> None:
    found = Holmes().plan(JOB, {"clusters": [FAST, SLOW], "between": 0.3e9}, None)["meshes"]
    best = found[0]
    assert best["sizes"]["pipeline"] >= 2 and sorted(best["stages"]) == best["stages"] and set(best["stages"]) == {0, 1}
    of = {at: [n for n, on in zip(best["blocks"], best["stages"], strict=True) if on == at] for at in (0, 1)}
    assert sum(best["blocks"]) == CFG.layers and sum(of[1]) / len(of[1]) < sum(of[0]) / len(of[0])
    assert [one["seconds"] for one in found] == sorted(one["seconds"] for one in found)


def test_what_two_clusters_hand_on_crosses_the_link_both_ways_at_once() -> None:
    """An activation goes over while a gradient comes back: once for each micro-batch, and once more to fill the pipe."""

    def seconds(between: float) -> dict[int, float]:
        found = Holmes().plan(JOB, {"clusters": [FAST, FAST], "between": between}, None)["meshes"]
        return {one["sizes"]["data"]: one["seconds"] for one in found if one["sizes"]["pipeline"] == 2 and one["sizes"]["tensor"] == 1}

    near, far = seconds(50e9), seconds(0.3e9)
    (data,) = far
    edge, many = 2 * JOB["context"] * CFG.width, JOB["rows"] // data
    assert far[data] - near[data] == pytest.approx((many + 1) * edge / SHARE * (1 / 0.3e9 - 1 / 50e9), rel=1e-9)


def test_clusters_that_are_alike_get_equal_parts() -> None:
    best = Holmes().plan(JOB, {"clusters": [FAST, FAST], "between": 50e9}, None)["meshes"]
    even = next(one for one in best if one["sizes"]["pipeline"] == 2)
    assert max(even["blocks"]) - min(even["blocks"]) <= 2  # the last stage has the head too


def test_one_cluster_is_a_plan_too_and_what_is_refused_is_left_out() -> None:
    found = Holmes().plan(JOB, FAST, {"inter": 1e9})["meshes"]
    assert found and all(set(one["stages"]) == {0} for one in found)
    left = Holmes().plan({**JOB, "able": lambda sizes: "no" if sizes["pipeline"] > 1 else ""}, FAST, None)["meshes"]
    assert left and all(one["sizes"]["pipeline"] == 1 for one in left)

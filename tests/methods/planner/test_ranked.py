"""Every mesh is tried, the best comes first, and what cannot be is counted by reason."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from bloomery.core.mesh import AXES, factored
from bloomery.methods.planner.ranked import Ranked
from bloomery.nn.config import Config
from bloomery.nn.shapes import SHAPES
from bloomery.num.clusters import cluster_of
from bloomery.num.step_cost import Job, Layout, bound, memory, seconds, unfit

SMALL = Config(32000, 1024, 8, 16, 8, 4096, 512, tied=False)
JOB = {"config": SMALL, "rows": 32, "context": 512}
FIXED = {"micro": 1, "stage": 3, "again": False, "chunks": 1}


def plan(job: dict, cluster: str = "nodes=1,gpus=8", measured: dict | None = None) -> dict:
    return dict(Ranked().plan(job, vars(cluster_of(cluster)), measured))


def test_each_mesh_is_there_once_or_rejected_and_told_as_the_formulas_say() -> None:
    found, on = plan({**JOB, **FIXED}), cluster_of("nodes=1,gpus=8")
    step = Job(SMALL, 32, 512)
    every = [Layout(**dict(zip(AXES, each, strict=True))) for each in factored(8, len(AXES))]
    able = [one for one in every if not unfit(step, one, on)]
    assert len(found["meshes"]) == len(able) and sum(found["rejected"].values()) == len(every) - len(able)
    for one in found["meshes"]:
        layout = Layout(**one["sizes"])
        assert layout in able and prod(one["sizes"].values()) == 8
        assert one["seconds"] == sum(seconds(step, layout, on).values()) and one["memory"] == sum(memory(step, layout).values())
    assert [one["seconds"] for one in found["meshes"]] == sorted(one["seconds"] for one in found["meshes"])


def test_what_the_memory_does_not_hold_is_rejected_with_what_misses_it_by_least() -> None:
    job = {"config": SHAPES["llama-70b"], "rows": 64, "context": 4096}
    found = plan(job, "nodes=1,gpus=8")
    assert not found["meshes"] and found["rejected"]["memory"] > 0
    assert found["least"]["memory"] > found["bound"] == bound(cluster_of("nodes=1,gpus=8"))
    assert plan(job, "nodes=1,gpus=8,memory=400GB")["meshes"]


def test_what_somebody_refuses_is_counted_under_his_words() -> None:
    found = plan({**JOB, "able": lambda sizes: "no tensor today" if sizes["tensor"] > 1 else ""})
    assert found["rejected"]["no tensor today"] > 0 and all(one["sizes"]["tensor"] == 1 for one in found["meshes"])
    assert {axis for one in plan({**JOB, "axes": ("data", "shard")})["meshes"] for axis, size in one["sizes"].items() if size > 1} == {
        "data", "shard",
    }  # fmt: skip


def test_measured_links_replace_the_given_ones() -> None:
    """Copies of a small model are best where links are good; where they are very bad, whatever sends least."""
    slow = plan({**JOB, **FIXED, "axes": ("data", "tensor")}, measured={"intra": 1e6, "unknown": 1.0})
    fast = plan({**JOB, **FIXED, "axes": ("data", "tensor")})
    of = {one["sizes"]["tensor"]: one["seconds"] for one in slow["meshes"]}
    assert slow["meshes"][0]["seconds"] > fast["meshes"][0]["seconds"] and len(of) == 4


def test_large_models_keep_tensor_within_a_node() -> None:
    """The rule of Narayanan et al. 2021, section 5.4: what is found for 175 G parameters on 128 nodes keeps to it."""
    job = {"config": replace(SHAPES["gpt3-175b"], layers=96), "rows": 1536, "context": 2048, "micro": 1, "again": True, "stage": 1}
    best = plan(job, "nodes=128,gpus=8,gpu=a100,inter=200Gb/s")["meshes"][0]
    assert best["sizes"]["tensor"] <= 8 and best["memory"] < 80e9


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="micro and chunks"):
        Ranked(micro=0)

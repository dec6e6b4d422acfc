"""Predicted seconds and bytes against closed forms, and what must not grow or shrink."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.nn.config import Config
from bloomery.nn.shapes import SHAPES
from bloomery.num.clusters import cluster_of
from bloomery.num.step_cost import Job, Layout, flops, memory, micros, seconds, unfit

CFG = Config(32000, 1024, 8, 16, 8, 4096, 512, tied=False)
JOB, ON = Job(CFG, 64, 512), cluster_of("nodes=8,gpus=8")
ALONE = Layout()


def test_states_of_one_device_are_bytes_of_a_parameter() -> None:
    norm = CFG.norm_parameters()  # the last one is not counted: it has the width's few numbers
    terms = memory(JOB, ALONE)
    assert terms["weights"] == 2 * (CFG.parameters() - norm)
    assert terms["gradients"] == 4 * (CFG.parameters() - norm) and terms["states"] == 12 * (CFG.parameters() - norm)


@pytest.mark.parametrize(("stage", "bytes_each"), [(1, 2 + 2 + 12 / 64), (2, 2 + 14 / 64), (3, 16 / 64)])
def test_zero_divides_what_its_stage_says(stage: int, bytes_each: float) -> None:
    """Rajbhandari et al. 2020, section 5, but for what is gathered or not yet scattered at one time: two blocks at most, and the tables."""
    terms = memory(Job(CFG, 64, 512, gradients=2), Layout(shard=64, stage=stage))
    found = terms["weights"] + terms["gradients"] + terms["states"]
    whole = bytes_each * CFG.parameters()
    block, tables = CFG.block_parameters() + CFG.vector_parameters(), 2 * CFG.vocab * CFG.width
    assert whole * 0.999 <= found <= whole + 2 * (3 * block + 2 * tables)


def test_a_pipeline_waits_as_long_as_its_bubble_says() -> None:
    """(p - 1) / m of the time at work with 1F1B, and a third of it with three stretches a stage."""
    cfg, on = replace(CFG, layers=12), cluster_of("nodes=1,gpus=4")
    job = Job(cfg, 64, 512)
    plain = seconds(job, Layout(pipeline=4, micro=1), on)
    assert plain["bubble"] == pytest.approx(3 / 64 * plain["compute"])
    assert seconds(job, Layout(pipeline=4, micro=1, chunks=3), on)["bubble"] == pytest.approx(plain["bubble"] / 3)


def test_what_is_computed_takes_at_least_its_operations() -> None:
    for again in (False, True):
        took = seconds(JOB, replace(ALONE, again=again), ON)["compute"]
        assert took > flops(JOB, again) / (ON.flops * ON.reached)
    assert flops(JOB, True) / flops(JOB) == pytest.approx(4 / 3, rel=0.15)  # the head is computed once


def test_copies_send_twice_their_gradients() -> None:
    found = seconds(JOB, Layout(data=64), ON)["data"]
    parameters = CFG.parameters() - CFG.norm_parameters()
    assert found == pytest.approx(ON.seconds(2 * 63 / 64 * 4 * parameters, 64, 8))


@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_cutting_never_takes_more_memory_and_twice_the_rows_never_less_time(
    name: str, tensor: int, pipeline: int, shard: int, again: bool
) -> None:
    cfg = SHAPES[name]
    job = Job(cfg, 512, cfg.context)
    one = Layout(tensor=1 << tensor, pipeline=1 << pipeline, shard=1 << shard, again=again)
    on = cluster_of(f"nodes={max(1, one.devices // 8)}")
    if unfit(job, one, on):
        return
    needed = sum(memory(job, one).values())
    assert needed > 0 and sum(memory(job, replace(one, again=True)).values()) <= needed
    if tensor:
        assert sum(memory(job, replace(one, tensor=one.tensor // 2)).values()) >= needed
    took = sum(seconds(job, one, on).values())
    assert sum(seconds(replace(job, rows=1024), one, on).values()) > took
    assert micros(replace(job, rows=1024), one) == 2 * micros(job, one)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout(tensor=16), "more than a node"),
        (Layout(tensor=3), "key heads"),
        (Layout(pipeline=3), "blocks"),
        (Layout(data=5), "rows of a step"),
        (Layout(expert=2), "experts"),
        (Layout(chunks=2), "interleaved"),
        (Layout(context=8, tensor=2), "context x tensor"),
    ],
)
def test_what_cannot_be_laid_out_is_said(layout: Layout, said: str) -> None:
    assert said in unfit(JOB, layout, ON) and unfit(JOB, ALONE, ON) == ""
    assert "more than a node" in unfit(JOB, Layout(tensor=4), cluster_of("gpus=2"))

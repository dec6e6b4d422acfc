"""A rank's share of a rehearsed step: the arithmetic in closed forms, and forecasts of recipes that name a mesh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_pretrain import stage

from bloomery.cli.plan import show_notes
from bloomery.core import catalog, recipe, walk
from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import Machine
from bloomery.core.ranks import Ranks
from bloomery.nn.config import Config
from bloomery.num.step_cost import Layout
from bloomery.stages import _forecast, _mesh, _planned
from bloomery.stages._load import Load
from bloomery.stages._share import Share, own
from bloomery.stages._smallest import USUAL
from bloomery.train import timing
from bloomery.train.rehearsal import Step

CFG = Config(1000, 64, 4, 4, 4, 128, 32)
MACHINE = Machine("test", 2, 8 << 30, True, {"float32": 1e11, "bfloat16": 4e11}, 1e10, effort="usual")
BLOCKS = CFG.layers * (CFG.block_parameters() + CFG.vector_parameters())
TABLE = CFG.vocab * CFG.width
ALL = BLOCKS + TABLE  # but for the last norm, which no formula counts
STEP = Step(
    making=20 * ALL, layers=4, frozen=0, frozen_blocks=0, weights=0, trained_blocks=4 * BLOCKS, masters=4 * ALL, gradients=4 * ALL,
    states=8 * ALL, audit=4 * ALL, kept=1_000_000, passes=1_500_000, update=64_000, checkpoint=12 * ALL, uneven=0, unused=0,
    micro=Counter(), rest=Counter(),
)  # fmt: skip


def load(precision: str = "float32", rows: int = 8, sequence: bool = False, tables: bool = False, **layout) -> Load:
    beside = {"steps": 10, "scored": 0, "text": 0, "reread": 0, "save_seconds": 1e9, "save_steps": 0, "threads": 1}
    how = {"make": None, "loss": None, "backward": None, "saved": None, "compiled": False, "precision": precision}
    return own(
        Load("pretrain", CFG, **how, rows=rows, micro=2, context=32, layout=Layout(**layout), sequence=sequence, tables=tables, **beside)
    )


def held(**layout) -> Step:
    return Share(load(**layout), MACHINE).held(STEP)


def test_of_one_process_nothing_changes() -> None:
    alone = Share(load(), MACHINE)
    assert alone.held(STEP) is STEP and alone.facts(1.0) == {} and alone.uncounted() == ""
    assert alone.taken({"products": 2.0}, 1.0, 1.0) == ({"products": 2.0}, 1.0, {})


def test_rows_are_divided_in_micro_batches_that_divide_them() -> None:
    assert [(one.rows, one.micro) for one in (load(data=2), load(rows=6, shard=2), load(rows=5, data=2), load(tensor=2))] == [
        (4, 2), (3, 1), (3, 1), (8, 2),
    ]  # fmt: skip
    assert held(data=2) == STEP  # all of the model, and a micro-batch as it was rehearsed


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_leaves_what_its_stage_says(stage: int) -> None:
    """Of 16 bytes a parameter in float32, with two blocks and the table gathered at stage 3, all at the others, and gradients of one block
    or the table before they are scattered."""
    found, block = held(shard=4, stage=stage), BLOCKS / CFG.layers
    assert found.states == pytest.approx(8 * ALL / 4) and found.checkpoint == pytest.approx(12 * ALL / 4, abs=1)
    assert found.masters == pytest.approx(4 * (ALL / 4 + 2 * block + TABLE) if stage == 3 else 4 * ALL)
    assert found.gradients == pytest.approx(4 * ALL if stage == 1 else 4 * (ALL / 4 + max(block, TABLE)))
    assert found.kept == STEP.kept and found.passes == STEP.passes  # of a micro-batch, as it was rehearsed


def test_in_bfloat16_masters_are_cut_and_working_weights_gathered() -> None:
    step = replace(STEP, weights=2 * ALL)
    found = Share(load("bfloat16", shard=2), MACHINE).held(step)
    assert found.masters == pytest.approx(4 * ALL / 2)
    assert found.weights == pytest.approx(2 * (ALL / 2 + 2 * BLOCKS / CFG.layers + TABLE))


def test_tensor_cuts_blocks_and_tables_where_its_method_does() -> None:
    vectors = CFG.layers * CFG.vector_parameters()
    blocks = (BLOCKS - vectors) / 2 + vectors
    assert held(tensor=2).states == pytest.approx(8 * (blocks + TABLE))
    assert held(tensor=2, tables=True).states == pytest.approx(8 * (blocks + TABLE / 2))
    assert held(tensor=2, sequence=True).kept == pytest.approx(STEP.kept / 2)
    between, within = 8 * CFG.width, 2 * (4 * CFG.width + 3 * CFG.ffn)  # bytes of a token: of norms and sums, and of matrices
    assert held(tensor=2).kept == pytest.approx(STEP.kept * (between + within / 2) / (between + within))


def test_context_and_pipeline_divide_activations() -> None:
    assert held(context=4).kept == pytest.approx(STEP.kept / 4) and held(context=4).states == STEP.states
    found = held(pipeline=4)  # of four micro-batches all are under way, each with a quarter of the blocks
    assert found.kept == pytest.approx(STEP.kept) and found.states == pytest.approx(8 * (BLOCKS / 4 + TABLE))
    assert found.making == max(STEP.making * found.states / STEP.states, 4 * CFG.parameters() + found.masters)


def test_a_step_is_computed_sent_and_waited_for() -> None:
    micro = {"products": 3.0, "others": 1.0, "overhead": 0.5}
    same, once, more = Share(load(data=2), MACHINE).taken(micro, 1.0, 1.0)
    link = _planned.LINK * 0.8
    assert same == pytest.approx(micro) and once == pytest.approx(1.0)
    assert more == {"sent": pytest.approx(_planned.WAIT + 2 * 1 / 2 * 4 * ALL / link)}
    _, _, some = Share(load(data=2), MACHINE).taken(micro, 1.0, 0.25)  # three quarters of the parameters are frozen
    assert some == {"sent": pytest.approx(more["sent"] / 4)}
    part, _, more = Share(load(pipeline=2), MACHINE).taken(micro, 1.0, 1.0)
    assert part["overhead"] == 0.25 and micro["products"] / 2 < part["products"] < micro["products"]  # the head lies with the last
    assert more["bubble"] == pytest.approx((2 - 1) / 4 * 4 * sum(part.values()))
    part, once, _ = Share(load(shard=2), MACHINE).taken(micro, 1.0, 1.0)
    assert part == pytest.approx(micro) and once == pytest.approx(0.5)


def test_the_facts_count_processes_and_bytes() -> None:
    told = Share(load(data=2, tensor=2), MACHINE).facts(1.0)
    assert told["processes"] == 4 and told["mesh"] == {"data": 2, "tensor": 2} and told["link_bytes_per_second"] == _planned.LINK
    assert told["sent_bytes"]["tensor, context, expert"] == 4 * CFG.layers * 2 * 2 * 32 * CFG.width * 4  # sums, blocks, micros, tokens


SMALL = Config(50, 16, 2, 4, 2, 24, 16)  # that of the table of docs/parallel.md, whose steps have four rows
NORM = 4 * SMALL.norm_parameters()  # bytes of the last one, which is not counted
TIED = 4 * SMALL.vocab * SMALL.width  # of the gradient of a table that both ends of a pipeline have


@pytest.mark.parametrize(
    ("layout", "counted"),
    [
        ({"data": 2}, {"data": 18_880 - NORM}),
        ({"data": 4}, {"data": 28_320 - 1.5 * NORM}),
        ({"shard": 2, "stage": 1}, {"shard": 18_880 - NORM}),
        ({"shard": 2, "stage": 2}, {"shard": 28_320 - 1.5 * NORM}),
        ({"tensor": 2}, {"tensor, context, expert": 32_768}),
        ({"context": 2}, {"tensor, context, expert": 31_424 - 18_880 - 256, "data": 18_880 - NORM}),  # without documents' numbers
        ({"pipeline": 2, "handed": 1}, {"pipeline": 7_296}),
        ({"pipeline": 2, "chunks": 2, "handed": 3}, {"pipeline": 12_288 + TIED}),
        ({"pipeline": 4}, {"pipeline": 2 * 4_096 + TIED}),  # both ways, as between two others
        ({"pipeline": 2, "tensor": 2, "handed": 1}, {"pipeline": 7_296, "tensor, context, expert": 16_384}),
        ({"tensor": 2, "tables": True}, {"tensor, context, expert": 41_728}),
        ({"tensor": 2, "sequence": True}, {"tensor, context, expert": 37_120 - 256}),  # without gradients of norms
        ({"context": 2, "across": "ring"}, {"tensor, context, expert": 35_520 - 18_880 - 256, "data": 18_880 - NORM}),
        ({"context": 4, "across": "ring"}, {"tensor, context, expert": 49_184 - 28_320 - 384, "data": 28_320 - 1.5 * NORM}),
        ({"data": 2, "averaged": 3.0}, {"data": 56_640 - 3 * NORM}),  # an outer step after every step
    ],
)
def test_what_is_sent_is_what_was_counted_on_processes(layout: dict, counted: dict) -> None:
    """Rows of the table of docs/parallel.md, float32, micro-batches of one row."""
    more = {name: layout[name] for name in ("handed", "across", "averaged", "sequence", "tables") if name in layout}
    sizes = {name: size for name, size in layout.items() if name not in more}
    given = replace(load(rows=4), cfg=SMALL, micro=1, context=16, layout=Layout(**sizes), **more)
    assert Share(own(given), MACHINE).sent(1.0) == counted


@pytest.mark.parametrize(
    ("method", "ranks", "sent"),
    [
        ("one_f_one_b", 2, 1), ("one_f_one_b", 4, 2), ("interleaved_pipeline", 2, 3), ("interleaved_pipeline", 4, 4),
        ("zero_bubble", 2, 2), ("zero_bubble", 4, 4), ({"zero_bubble": {"order": "interleaved"}}, 2, 3),
    ],
)  # fmt: skip
def test_a_rank_hands_on_what_its_stages_do(method: object, ranks: int, sent: int) -> None:
    """Over an edge between two ranks, which of two there are as many as stages, but one, or where the turn lies with one rank, but two."""
    assert _mesh.handed(catalog.build_method("parallel", method), ranks) == sent


# ---- recipes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Forecast]:
    """The forecast of a small run."""
    monkeypatch.setattr(timing, "timed", lambda func, args, kwargs: 1e-6 + timing.traffic((args, kwargs)) / 1e10)
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)
    monkeypatch.setattr(_forecast, "base", lambda stage, compiled, speeds, usual: USUAL[compiled])

    def forecast(**knobs) -> Forecast:
        one = stage(tokens, **{"precision": "float32", "width": 32, "kv_heads": 2, **knobs})
        return one.forecast({"data": Forecast(facts={"vocab": 300})}, MACHINE)

    return forecast


def test_copies_hold_what_one_process_holds_of_their_rows(told: Callable[..., Forecast]) -> None:
    half, whole = told(batch=64, tokens=640), told(batch=128, tokens=1280, mesh={"data": 2})
    assert whole.facts["memory_terms"].items() >= {**half.facts["memory_terms"], "text": 2560}.items()
    assert whole.facts["seconds_terms"]["products of passes"] == half.facts["seconds_terms"]["products of passes"]
    assert whole.facts["rows"] == 8 and whole.facts["step_flops"] == pytest.approx(2 * half.facts["step_flops"])
    assert whole.facts["processes"] == 2 and "{data: 2}" in whole.facts["forecast_without"] and "processes" not in half.facts
    assert whole.facts["work_disk"] == half.facts["work_disk"]


@pytest.mark.parametrize("axis", ["shard", "tensor", "pipeline", "context"])
def test_a_rank_of_any_axis_holds_less_and_no_more_is_made(told: Callable[..., Forecast], axis: str) -> None:
    plain, cut = told(), told(mesh={axis: 2})
    held = {name: sum(one.facts["memory_terms"].get(name, 0) for name in ("masters", "gradients", "optimizer", "activations"))
            for name, one in (("plain", plain), ("cut", cut))}  # fmt: skip
    assert held["cut"] < held["plain"] and sum(cut.facts["sent_bytes"].values()) > 0 and cut.facts["seconds_terms"]["sent"] > 0
    assert ("bubble" in cut.facts["seconds_terms"]) == (axis == "pipeline")
    for name in ("parameters", "tokens", "steps", "rows", "flops", "work_disk"):
        assert cut.facts[name] == plain.facts[name]


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"mesh": {"context": 2}, "parallel": ["ring"]}, "and ring, but for what it sends counted as ulysses"),
        ({"mesh": {"pipeline": 2}, "parallel": ["gpipe"]}, "and gpipe, but for what it sends counted as one_f_one_b"),
        ({"mesh": {"pipeline": 2}, "layers": 3}, "and stages of unlike size, counted as even"),
        ({"mesh": {"shard": 2}, "optimizer": "muon"}, "and whole matrices that the optimizer gathers"),
        ({"mesh": {"data": 8}}, "and rows of padding alone in 4 of 8 parts of a step, which has 4 rows"),
        (
            {"mesh": {"data": 2}, "parallel": ["diloco"], "checkpoint_steps": 0},
            "and diloco, but for what it sends counted as gradients that are shared",
        ),
    ],
)
def test_what_no_formula_knows_is_said(told: Callable[..., Forecast], knobs: dict, said: str) -> None:
    assert told(**knobs).facts["forecast_without"].endswith(said)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"mesh": {"tensor": 3}}, "tensor 3 does not divide 2 heads; say `mesh: {data: 3}`"),
        ({"mesh": {"tensr": 2}}, "there is no axis 'tensr'; did you mean tensor"),
        ({"mesh": {"shard": 0}}, "shard must be at least 1, got 0"),
        ({"mesh": {"data": -2, "shard": -2}}, "data must be at least 1, got -2"),
        ({"mesh": {"context": 2, "tensor": 2}}, "context 2 does not divide 1 heads over 1 key heads, which tensor 2 leaves; say `mesh: {"),
        (
            {"mesh": {"tensor": 1_000_000_007}},
            "{tensor: 1000000007} takes 1,000,000,007 processes, and no more than 65,536 are laid out here",
        ),
        ({"mesh": {"pipeline": 2}, "parallel": ["interleaved_pipeline"]}, "makes 4 stages of 2 layers; say `mesh: {data: 2}`"),
        ({"mesh": {"shard": 2}, "parallel": ["three_level_partition"]}, "`inner` must divide them and be less; say `mesh: {data: 2}`"),
        ({"mesh": {"tensor": 2}, "parallel": ["vocabulary_parallel"]}, ""),
        ({"mesh": {"tensor": 2}, "experts": 2}, "tensor cuts plain blocks, and this model has experts; say `mesh: {"),
        ({"mesh": {"expert": 3}, "experts": 4}, "expert 3 does not divide 4 experts; say `mesh: {data: 3}`"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused_by_the_plan(told: Callable[..., Forecast], knobs: dict, said: str) -> None:
    if not said:
        assert told(**knobs).facts["processes"] == 2
        return
    with pytest.raises(BadInput) as refused:
        told(**knobs)
    assert said in str(refused.value)


def test_a_launch_that_leaves_its_mesh_open_is_forecast_as_it_would_be_chosen(
    told: Callable[..., Forecast], monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in (_mesh, _planned):
        monkeypatch.setattr(where, "here", lambda: Ranks(0, 2))
    assert told().facts["mesh"] == {"data": 2}


def test_settings_that_the_mesh_refuses_are_not_named(told: Callable[..., Forecast], tokens: Path) -> None:
    knobs = {"mesh": {"shard": 2}, "precision": "float32", "batch": 4096, "tokens": 8192}
    one, inputs = stage(tokens, **knobs), {"data": Forecast(facts={"vocab": 300})}
    found = one.fitting(told(**knobs), inputs, MACHINE, 1e12)
    assert found and not any("saved" in fit.knobs for fit in found)


def test_processes_of_a_launch_share_the_memory_of_their_machine(monkeypatch: pytest.MonkeyPatch, store) -> None:
    def planned(**class_vars) -> SimpleNamespace:
        entry = SimpleNamespace(name="lm", stage=SimpleNamespace(class_vars=class_vars), inputs={}, place="steps.lm")
        fitting = SimpleNamespace(fitting=lambda *given: [])
        return SimpleNamespace(step=entry, made=None, forecast=Forecast(memory=600.0), stage=fitting)

    monkeypatch.setattr(walk, "remembered", lambda path: MACHINE)
    together, alone = planned(together=True), planned()
    assert not list(walk.unfit([together, alone], store, 1000.0))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert [(entry, limit) for entry, limit, _ in walk.unfit([together, alone], store, 1000.0)] == [(together, 500.0)]


def test_the_plan_says_whose_memory_and_time_it_shows(capsys: pytest.CaptureFixture[str], told: Callable[..., Forecast]) -> None:
    for knobs, said in (({"mesh": {"data": 2}}, ["each of the 2 processes of {data: 2}", "a step at 1.00"]), ({}, [])):
        show_notes(SimpleNamespace(step=SimpleNamespace(name="lm"), forecast=told(**knobs)))
        out = capsys.readouterr().out
        assert all(one in out for one in said) and bool(said) == bool(out)


def test_what_the_plan_refuses_has_the_name_of_its_step(tokens: Path, store) -> None:
    raw = {"name": "r", "steps": {"lm": {"stage": "pretrain", "data": str(tokens), "mesh": {"dta": 2}}}}
    with pytest.raises(BadInput, match=r"steps\.lm: mesh: there is no axis 'dta'; did you mean data"):
        walk.plan(recipe.parse(raw, "r"), store, lambda: MACHINE)

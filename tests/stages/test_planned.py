"""`mesh: auto`: what planners choose for the processes that were started, and what they are not asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from small_pretrain import stage

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import Machine
from bloomery.core.ranks import Ranks
from bloomery.nn.model import Transformer
from bloomery.num.clusters import Cluster
from bloomery.stages import _forecast, _mesh, _planned
from bloomery.train import timing

ON = Cluster(1, 4, 1e9, 1e9, 8e9, 1e11, 1e10, wait=_planned.WAIT, hides=0.0, reached=1.0)
WIDE = {"width": 64, "heads": 4, "kv_heads": 4, "ffn": 128, "context": 32, "batch": 256}


def chosen(one, on: Cluster = ON, measured: dict | None = None) -> dict:
    cfg = one.config(300)
    return _planned.chosen(one, cfg, one.context, _mesh.unfit(one, cfg, one.context), on, measured or {})[0]


@pytest.mark.parametrize("planner", ["ranked", "flexsp", "holmes"])
def test_a_small_model_is_copied(tokens: Path, planner: str) -> None:
    assert chosen(stage(tokens, planner=planner, **WIDE)) == {"data": 4}


def test_what_the_memory_does_not_hold_is_cut(tokens: Path) -> None:
    one = stage(tokens, **WIDE)
    needed = 18 * one.config(300).parameters()
    sizes = chosen(one, replace(ON, memory=0.7 * needed))
    assert sizes.get("data", 1) < 4 and {"shard", "tensor"} & sizes.keys()
    assert chosen(one, replace(ON, memory=1.0)) == {"data": 4}  # nothing fits: what is usual


def test_what_the_run_refuses_is_not_chosen(tokens: Path) -> None:
    """Blocks that are computed twice go with copies alone, compiled ones with all but `context` here."""
    for knobs, axes in (({"saved": "recompute"}, {"data"}), ({"compile": "on"}, {"data", "shard", "pipeline", "tensor"})):
        one = stage(tokens, **{**WIDE, **knobs})
        sizes = chosen(one, replace(ON, memory=0.7 * 18 * one.config(300).parameters()))
        assert sizes.keys() <= axes and math.prod(sizes.values()) == 4


def test_rows_that_do_not_divide_leave_copies(tokens: Path) -> None:
    assert chosen(stage(tokens, **WIDE), Cluster(1, 3, 1e9, 1e9, 8e9, 1e11, 1e10)) == {"data": 3}


def test_a_launch_is_planned_before_any_work(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (_mesh, _planned):
        monkeypatch.setattr(where, "here", lambda: Ranks(0, 2))
    one = stage(tokens)
    forecast = Forecast(facts={"config": asdict(one.config(300))})
    one.launch(forecast)
    with pytest.raises(BadInput, match="planner: redco chooses no mesh; name ranked, flexsp or holmes"):
        stage(tokens, planner="redco").launch(forecast)
    with pytest.raises(BadInput, match="mesh: what diloco gives depends on how many copies there are"):
        stage(tokens, parallel=["diloco"]).launch(forecast)
    with pytest.raises(BadInput, match=r"weights_every: copies are the same every 20 steps .diloco.; say a multiple of that"):
        stage(tokens, parallel=["diloco"], mesh={"data": 2}, weights_every=30, checkpoint_steps=20).launch(forecast)
    with pytest.raises(BadInput, match="parallel: zero_offload and zero_infinity all say where"):
        stage(tokens, parallel=["zero_offload", "zero_infinity"]).launch(forecast)
    with pytest.raises(BadInput, match="zero_offload keeps the states of whole parameters, and shard cuts the model"):
        stage(tokens, parallel=["zero_offload"], mesh={"shard": 2}).launch(forecast)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"planner": "redco"}, "planner: redco chooses no mesh"),
        ({"parallel": ["diloco"]}, "mesh: what diloco gives depends on how many copies there are"),
        ({"parallel": ["diloco"], "mesh": {"data": 2}}, "checkpoint_steps: copies are the same every 20 steps"),
    ],
)
def test_a_plan_refuses_what_a_launch_would(tokens: Path, planned: Callable[..., dict], knobs: dict, said: str) -> None:
    """Also where one process alone plans."""
    with pytest.raises(BadInput, match=said):
        planned(*knobs.pop("parallel", ()), **knobs)


def test_inexact_methods_have_addresses_of_their_own(tokens: Path, store, tmp_path: Path) -> None:
    """A copy that steps by itself ends elsewhere: its address says so; where exact methods leave a step is the same."""
    from small_pretrain import SMALL

    from bloomery.core import recipe
    from bloomery.core.walk import addressed

    def address(**knobs) -> str:
        raw = {"name": "r", "steps": {"lm": {"stage": "pretrain", "data": str(tokens), **SMALL, **knobs}}}
        return addressed(recipe.parse(raw, "r"), store)["lm"].address

    plain = address()
    assert plain == address(parallel=["zero_infinity"]) == address(mesh={"data": 2}, planner="holmes")
    local = address(parallel=["diloco"], mesh={"data": 2})
    assert len({plain, local, address(parallel=["diloco"], mesh={"data": 4}), address(parallel=[{"diloco": {"every": 5}}])}) == 4


def test_states_on_a_disk_make_the_same_model(tokens: Path, tmp_path: Path, one_thread) -> None:
    from small_pretrain import made

    plain = made(tokens, tmp_path / "plain")
    homes = {"zero_infinity": {}, "superpipeline": {"resident": 1, "together": 1}, "deep_optimizer_states": {}}
    for name, knobs in homes.items():
        moved = made(tokens, tmp_path / name, parallel=[{name: knobs}])
        assert moved.facts["weights_sha256"] == plain.facts["weights_sha256"]
        assert list(moved.facts["optimizer_lies"]) == ["host" if name == "deep_optimizer_states" else "disk"]


@pytest.fixture
def planned(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """The facts of a forecast, with or without a method that says where states lie."""
    monkeypatch.setattr(timing, "timed", lambda func, args, kwargs: 1e-6 + timing.traffic((args, kwargs)) / 1e10)
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)
    machine = Machine("test", 2, 8 << 30, True, {"float32": 1e11, "bfloat16": 4e11}, effort="usual")

    def facts(*parallel, **knobs) -> dict:
        one = stage(tokens, compile="off", parallel=list(parallel), **knobs)
        return one.forecast({"data": Forecast(facts={"vocab": 300})}, machine).facts

    return facts


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_states_on_a_disk_are_planned_on_the_disk(planned: Callable[..., dict], precision: str) -> None:
    plain, disk, host = (planned(*home, precision=precision) for home in ((), ("zero_infinity",), ("zero_offload",)))
    numbers, sixteen = plain["parameters"], precision == "bfloat16"
    gone = {"optimizer": 8 * numbers, **({"masters": 4 * numbers} if sixteen else {})}
    assert disk["memory_terms"] == {name: size for name, size in plain["memory_terms"].items() if name not in gone}
    assert {name: plain["memory_terms"][name] for name in gone} == gone
    assert disk["work_disk"] - plain["work_disk"] == sum(gone.values())
    assert host["memory_terms"] == plain["memory_terms"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocks_on_a_disk_are_planned_there_but_for_those_that_stay(tokens: Path, planned: Callable[..., dict], precision: str) -> None:
    """One of four blocks is in memory at a time."""
    plain, disk = (planned(*home, precision=precision, layers=4) for home in ((), ({"superpipeline": {"resident": 1, "together": 1}},)))
    blocks = sum(p.numel() for p in Transformer(stage(tokens, layers=4).config(300), None).blocks.parameters())
    weights, each = ("weights", 2) if precision == "bfloat16" else ("masters", 4)
    assert plain["memory_terms"][weights] - disk["memory_terms"][weights] == pytest.approx(3 / 4 * each * blocks, abs=1)
    assert not ({"optimizer", "masters"} - {weights}) & disk["memory_terms"].keys()
    assert disk["work_disk"] - plain["work_disk"] == plain["parameters"] * (8 + 4 + (2 if precision == "bfloat16" else 0))


def test_a_window_of_all_blocks_spares_no_weights(planned: Callable[..., dict]) -> None:
    whole, disk = (planned({"superpipeline": {"resident": resident}}, layers=3) for resident in (3, 9))
    assert whole["memory_terms"] == disk["memory_terms"]


def test_blocks_that_come_from_a_disk_are_for_processors(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = stage(tokens, parallel=["superpipeline"])
    monkeypatch.setattr(type(one), "mode", lambda self: {"device": "cuda", "compile": False, "precision": "bfloat16"})
    with pytest.raises(BadInput, match="superpipeline brings blocks from a disk to a processor's memory; say `device: cpu`"):
        one.launch(Forecast(facts={"config": asdict(one.config(300))}))

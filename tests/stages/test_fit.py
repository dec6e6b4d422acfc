"""What `plan` says of memory is taken by the run, and the settings that it names fit: by the forecast and in reality."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bloomery.core import catalog, walk
from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import Machine, remembered
from bloomery.core.recipe import parse
from bloomery.core.store import Store
from bloomery.data.shards import write_shards
from bloomery.data.tokenizer import learn
from bloomery.stages import _fit, _training
from bloomery.stages.pretrain import Pretrain
from bloomery.stages.tune import Tune
from bloomery.train import timing

SHAPE = {"width": 64, "layers": 3, "heads": 2, "ffn": 128, "context": 128, "batch": 8192, "compile": "off", "precision": "float32"}
RUN = """
import json, sys
from pathlib import Path
from bloomery.core import recipe, walk
from bloomery.core.store import Store
from bloomery.stages._smallest import highest
made = walk.run(recipe.parse(json.loads(sys.argv[1]), "here"), Store(Path(sys.argv[2])), quiet=True)
print(highest())
"""


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation takes what its bytes would: trying each is slow, and what is tested here is memory."""
    monkeypatch.setattr(timing, "timed", lambda func, args, kwargs: 1e-6 + timing.traffic((args, kwargs)) / 1e10)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return remembered(tmp_path_factory.mktemp("machine") / "machine.json")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("tokens"), np.random.default_rng(0)
    known = learn(["some words to learn from, some more of them"] * 20, 280)
    known.save(folder)
    for part in ("train", "heldout"):
        rows = [({"id": f"{i}", "bytes": 99}, np.r_[known.bos, draw.integers(10, 260, 200), known.eos]) for i in range(60)]
        write_shards(folder / part, rows, 280)
    return folder


def built(stage: str, **knobs) -> Pretrain | Tune:
    entry = catalog.find("stage", stage, "here")
    blank = {knob.name: None for knob in entry.knobs.values() if knob.artifact}
    blank |= {knob.name: () for knob in entry.knobs.values() if knob.artifact and knob.many}
    resolved = {knob.name: knobs.get(knob.name, knob.default) for knob in entry.knobs.values() if not knob.artifact}
    return catalog.build(entry, {**resolved, **blank})


def test_each_kind_of_setting_fits_by_its_own_forecast_at_the_same_batch(machine: Machine) -> None:
    stage, inputs = built("pretrain", **SHAPE), {"data": Forecast(facts={"vocab": 300})}
    told = stage.forecast(inputs, machine)
    assert told.memory == pytest.approx(sum(told.facts["memory_terms"].values()), rel=1e-3)
    limit = told.memory - 0.25 * told.facts["memory_terms"]["activations"]  # not a share of all: the process itself is most of it
    found = stage.fitting(told, inputs, machine, limit)
    assert {next(iter(fit.knobs)) for fit in found} >= {"micro", "saved", "precision"}
    assert [fit.seconds for fit in found] == sorted(fit.seconds for fit in found)
    for fit in found:
        again = replace(stage, **{name: _fit.built(name, value) for name, value in fit.knobs.items()})
        assert again.forecast(inputs, machine).memory == fit.memory <= limit
        assert again.rows == stage.rows and again.context == stage.context and again.batch == stage.batch


def test_a_second_optimizer_that_moves_nothing_is_told() -> None:
    for knobs in ({}, {"rest": "adamw"}, {"optimizer": "muon", "rest": "lion"}, {"optimizer": "lion"}):
        assert _training.unread(built("pretrain", **SHAPE, **knobs)) == ""
    for rest in ("lion", {"adamw": {"beta2": 0.5}}):
        name = rest if isinstance(rest, str) else "adamw"
        said = _training.unread(built("pretrain", **SHAPE, rest=rest))
        assert said == f"rest: {name} has nothing to move, as adamw moves every parameter"


def test_where_no_single_change_is_enough_they_are_made_together(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    less = {"micro": 30, "saved": 20, "precision": 15, "optimizer": 5}
    slower = {"micro": 1, "saved": 9, "precision": -20, "optimizer": 0}

    def tried(stage: object, knobs: dict, inputs: object, machine: object) -> _fit.Fit:
        return _fit.Fit(dict(knobs), 100 - sum(less.get(one, 0) for one in knobs), 50 + sum(slower.get(one, 0) for one in knobs))

    monkeypatch.setattr(_fit, "tried", tried)
    stage, told = built("pretrain", **SHAPE), Forecast(facts={"micro": 64, "rows": 64})
    assert [next(iter(fit.knobs)) for fit in _fit.fitting(stage, told, {}, machine, 90)] == ["precision", "micro", "saved"]
    (both,) = _fit.fitting(stage, told, {}, machine, 51)
    assert both.knobs == {"micro": 1, "saved": {"recompute": {"sites": ["block"]}}} and both.memory == 50
    (most,) = _fit.fitting(stage, told, {}, machine, 30)
    assert set(most.knobs) == {"micro", "saved", "precision", "optimizer", "rate"}
    assert _fit.fitting(stage, told, {}, machine, 29) == []


def test_micro_batches_always_divide_the_rows_of_a_step() -> None:
    assert _fit.smaller(Forecast(facts={"micro": 12, "rows": 36})) == [9, 4, 2, 1]
    assert _fit.smaller(Forecast(facts={"micro": 1, "rows": 7})) == []


def test_tuning_may_take_an_adapter_or_a_lower_rank() -> None:
    told = Forecast(facts={"micro": 1, "rows": 1})
    names = {"compile": "off", "precision": "bfloat16", "optimizer": "lion"}
    whole, lora = built("tune", **names), built("tune", **names, adapter={"lora": {"rank": 9, "dropout": 0.5}})
    assert [one["adapter"]["lora"]["rank"] for one in _fit.changes(whole, told)[0]] == [16, 8, 4]
    (ranks,) = _fit.changes(lora, told)
    assert [one["adapter"]["lora"]["rank"] for one in ranks] == [8, 4] and ranks[0]["adapter"]["lora"]["dropout"] == 0.5


def test_a_run_is_refused_before_work_and_the_setting_that_is_named_fits_in_reality(tokens: Path, tmp_path: Path) -> None:
    steps = {"lm": {"stage": "pretrain", "data": str(tokens), **SHAPE, "tokens": 3 * 8192, "evaluate_tokens": 1024}}
    store, raw = Store(tmp_path / "store"), {"name": "small", "steps": steps}
    (planned,) = walk.plan(parse(raw, "here"), store)
    limit = 0.85 * planned.forecast.memory
    with pytest.raises(BadInput, match=r"steps\.lm: it needs about .* MB of memory and there are .* `micro: \d+`") as said:
        walk.run(parse(raw, "here"), store, quiet=True, memory=limit)
    assert not list(store.root.glob("pretrain-*")) and "\n" not in str(said.value)
    micro = int(re.search(r"`micro: (\d+)`", str(said.value))[1])
    peaks = []
    for knobs in ({}, {"micro": micro}):
        recipe = {"name": "small", "steps": {"lm": {**steps["lm"], **knobs}}}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", RUN, json.dumps(recipe), str(store.root)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[0] > limit and peaks[1] <= 1.05 * limit  # forecasts are good to a tenth (docs/plan.md)


def test_the_message_of_what_cannot_fit() -> None:
    assert "no setting was found" in walk.too_large(2e9, 1e9, [])
    fit = _fit.Fit({"saved": {"recompute": {"sites": ["mlp"]}}, "rate": 0.0004}, 5e8, 61.2)
    assert str(fit) == "`saved: {recompute: {sites: [mlp]}}, rate: 0.0004` (500 MB, 61 s)"

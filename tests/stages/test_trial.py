"""A trial does the steps of a run: its seconds and bytes take the place of what a rehearsal adds up, and are remembered."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import asdict, replace

import pytest

from bloomery.core.machine import Machine, remembered
from bloomery.core.speeds import Speeds
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng
from bloomery.stages import _forecast, _trial
from bloomery.stages._trial import Attempt, Tried
from bloomery.train.optimizer import Optimizer

CFG = Config(vocab=512, width=64, layers=2, heads=2, kv_heads=2, ffn=128, context=64)
LOAD = {"stage": "pretrain", "rows": 8, "micro": 4, "context": 64, "steps": 100, "scored": 0, "text": 0, "reread": 0, "save_steps": 0}


def made(cfg: Config, precision: str = "float32"):
    net = Transformer(cfg)
    return net, {}, Optimizer(net, AdamW(), Rng((0, "test")), 0.0)


def broken():
    raise RuntimeError("no model")


@pytest.fixture
def attempt() -> Attempt:
    how = {"compiled": False, "threads": 1, "precision": "float32", "uneven": False}
    return Attempt(functools.partial(made, CFG), CrossEntropy(), Autograd(), None, 2, 4, 64, **how)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return replace(remembered(tmp_path_factory.mktemp("machine") / "machine.json"), effort="tried")


def test_a_trial_in_a_process_of_its_own_holds_at_least_what_a_step_must(attempt):
    found = _trial.tried(attempt)
    assert found.micro > 0 and found.rest > 0 and found.compiling == 0
    assert found.passes >= 2 * (1 + _trial.LEAST)
    weights = 4 * CFG.parameters()
    assert weights * 5 <= found.grown < weights * 5 + 200e6  # weights, gradients, two moments, the first weights; activations are small


def test_it_stays_with_the_rehearsal_where_the_trial_fails(attempt):
    assert _trial.tried(replace(attempt, make=broken)) is None
    assert _trial.tried(replace(attempt, make=lambda: None)) is None  # a closure cannot travel


def test_rows_of_experts_are_new_in_each_step(attempt):
    seen = []

    class Watched(CrossEntropy):
        def terms(self, roles, batch, seen_, rng):
            seen.append(batch.inputs.clone())
            return super().terms(roles, batch, seen_, rng)

    net, roles, mover = attempt.make()
    step = _trial._stepper(replace(attempt, loss=Watched()), net, roles, mover)
    step(), step()
    assert len(seen) == 4 and len({tuple(one.flatten().tolist()) for one in seen}) == 4
    assert all(int(one.min()) >= 0 and int(one.max()) < CFG.vocab for one in seen)


def test_what_was_tried_is_remembered_and_asked_for_only_where_it_may_be(attempt, monkeypatch, tmp_path):
    calls, asked, found = Counter({"a": 1}), [], Tried(0.5, 0.25, 1e6, 4, 0.0)
    monkeypatch.setattr(_trial, "tried", lambda attempt: asked.append(attempt) or found)
    speeds = Speeds(tmp_path / "speeds.json")
    assert _trial.known(attempt, calls, speeds, may=False) is None and not asked
    assert _trial.known(attempt, calls, speeds, may=True) == found and len(asked) == 1
    speeds.write()
    again = Speeds(tmp_path / "speeds.json")
    assert _trial.known(attempt, calls, again, may=False) == found and len(asked) == 1
    assert _trial.known(replace(attempt, threads=2), calls, again, may=False) is None
    assert _trial.known(attempt, Counter({"a": 2}), again, may=False) is None


def test_a_forecast_goes_by_the_trial(attempt, machine, monkeypatch):
    tried = Tried(0.5, 0.25, 3e9, 4, 0.0)
    monkeypatch.setattr(_trial, "tried", lambda attempt: tried)
    own = {name: value for name, value in asdict(attempt).items() if name in ("compiled", "threads", "precision", "saved")}
    load = _forecast.Load(make=attempt.make, loss=attempt.loss, backward=attempt.backward, save_seconds=1e9, **own, **LOAD)
    found = _forecast.needs(load, machine)
    assert found.step == pytest.approx(2 * 0.5 + 0.25)
    assert found.seconds["the trial of passes"] == pytest.approx(100 * 2 * 0.5)
    plain = _forecast.needs(replace(load, text=1), replace(machine, effort="measured", place=None))
    beyond = sum(found.memory.values()) - sum(plain.memory.values())
    assert 2.8e9 < beyond < 3e9  # all that the trial held beyond the few megabytes of the rehearsal


def test_a_run_with_room_goes_by_the_usual_process_and_one_without_measures_it(attempt, machine, monkeypatch):
    from bloomery.stages import _smallest

    asked = []
    monkeypatch.setattr(_smallest, "smallest", lambda stage, compiled: asked.append(compiled) or dict.fromkeys(_smallest.FACTS, 7.0))
    own = {"compiled": True, "threads": 1, "precision": "float32", "saved": None}
    load = _forecast.Load(make=attempt.make, loss=attempt.loss, backward=attempt.backward, save_seconds=1e9, **own, **LOAD)
    usual = replace(machine, effort="usual", place=None)
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)
    assert _forecast.needs(load, usual).memory["process"] == _smallest.USUAL[True]["bytes"] and not asked
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e9)
    assert _forecast.needs(load, usual).memory["process"] == 7.0 and asked == [True]
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)
    assert _forecast.needs(load, replace(usual, effort="measured")).memory["process"] == 7.0

"""A trial does the steps of a run: its seconds and bytes take the place of what a rehearsal adds up, and are remembered."""

from __future__ import annotations

import functools
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bloomery.core.machine import Machine, remembered
from bloomery.core.speeds import Speeds
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.optim.lion import Lion
from bloomery.methods.optim.spam import Spam
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng
from bloomery.stages import _forecast, _trial
from bloomery.stages._load import Load
from bloomery.stages._trial import Tried, Untried
from bloomery.train import timing
from bloomery.train.optimizer import Optimizer

CFG = Config(vocab=512, width=64, layers=2, heads=2, kv_heads=2, ffn=128, context=64)
FOUND = Tried(0.5, 0.25, 3e9, 4, 0.0)


def made(cfg: Config, method: object = None):
    net = Transformer(cfg)
    return net, {}, Optimizer(net, method or AdamW(), Rng((0, "test")), 0.0, rest=AdamW())


def broken():
    raise RuntimeError("no model\nat all")


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single operations take what their bytes would: trying each is slow, and is tested elsewhere."""
    monkeypatch.setattr(timing, "timed", lambda func, args, kwargs: 1e-6 + timing.traffic((args, kwargs)) / 1e10)


@pytest.fixture
def load() -> Load:
    beside = {"steps": 100, "scored": 0, "text": 0, "reread": 0, "save_seconds": 1e9, "save_steps": 0}
    how = {"loss": CrossEntropy(), "backward": Autograd(), "saved": None, "compiled": False, "threads": 1, "precision": "float32"}
    return Load(stage="pretrain", cfg=CFG, make=functools.partial(made, CFG), rows=8, micro=4, context=64, **how, **beside)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return replace(remembered(tmp_path_factory.mktemp("machine") / "machine.json"), effort="tried")


def test_a_trial_in_a_process_of_its_own_holds_at_least_what_a_step_must(load):
    found = _trial.tried(load, uneven=False)
    assert found.micro > 0 and found.rest > 0 and found.compiling == 0
    assert found.passes >= 2 * (1 + _trial.LEAST)
    weights = 4 * CFG.parameters()
    assert weights * 5 <= found.grown < weights * 5 + 200e6  # weights, gradients, two moments, the first weights; activations are small


def test_a_trial_that_fails_says_why(load):
    with pytest.raises(Untried, match=r"^RuntimeError: no model$"):
        _trial.tried(replace(load, make=broken), uneven=False)
    with pytest.raises(Untried, match=r"cannot be started .*lambda"):  # which cannot travel
        _trial.tried(replace(load, make=lambda: None), uneven=False)
    assert _trial.ended_by(-9) == "its process ended by SIGKILL" and "code 1" in _trial.ended_by(1)


def endless(folder: str):
    """Never made; says which process it is to be made in."""
    (Path(folder) / "aside").write_text(str(os.getpid()))
    os.replace(Path(folder) / "aside", Path(folder) / "pid")
    time.sleep(3600)


def never_done(folder: str) -> None:
    """A planner whose trial does not end."""
    beside = {"rows": 1, "micro": 1, "context": 1, "steps": 1, "scored": 0, "text": 0, "reread": 0, "save_seconds": 1.0, "save_steps": 0}
    how = {"loss": CrossEntropy(), "backward": Autograd(), "saved": None, "compiled": False, "threads": 1, "precision": "float32"}
    _trial.tried(Load(stage="pretrain", cfg=CFG, make=functools.partial(endless, folder), **how, **beside), uneven=False)


def test_a_trial_ends_with_the_planner(tmp_path, nursery):
    planner = nursery.start("test_trial:never_done", str(tmp_path))
    while not (tmp_path / "pid").exists():
        assert planner.poll() is None, planner.communicate()
        time.sleep(0.02)
    trial = psutil.Process(int((tmp_path / "pid").read_text()))
    planner.send_signal(signal.SIGKILL)
    planner.communicate()
    assert any(gone(trial) or time.sleep(0.02) for _ in range(6000))


def gone(process: psutil.Process) -> bool:
    """Whether it has ended, be it that nobody has asked for its code yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_rows_of_experts_are_new_in_each_step(load):
    seen = []

    class Watched(CrossEntropy):
        def terms(self, roles, batch, seen_, rng):
            seen.append(batch.inputs.clone())
            return super().terms(roles, batch, seen_, rng)

    net, roles, mover = load.make()
    step = _trial._stepper(replace(load, loss=Watched()), net, roles, mover)
    step(), step()
    assert len(seen) == 4 and len({tuple(one.flatten().tolist()) for one in seen}) == 4
    assert all(int(one.min()) >= 0 and int(one.max()) < CFG.vocab for one in seen)


def test_what_was_tried_is_remembered_and_asked_for_only_where_it_may_be(load, monkeypatch, tmp_path):
    step, asked = SimpleNamespace(micro={"a": 1}, rest={"b": 1}, uneven=0), []
    monkeypatch.setattr(_trial, "tried", lambda load, uneven: asked.append(load) or FOUND)
    speeds = Speeds(tmp_path / "speeds.json")
    assert _trial.known(load, step, speeds, may=False) is None and not asked
    assert _trial.known(load, step, speeds, may=True) == FOUND and len(asked) == 1
    speeds.write()
    again = Speeds(tmp_path / "speeds.json")
    assert _trial.known(load, step, again, may=False) == FOUND and len(asked) == 1
    assert _trial.known(replace(load, text=5, steps=9, make=None), step, again, may=False) == FOUND  # a longer run of the same steps
    others = {"micro": {"a": 2}}, {"rest": {"b": 2}}, {"uneven": 1}
    assert all(_trial.known(load, SimpleNamespace(**{**vars(step), **one}), again, may=False) is None for one in others)
    for one in ({"threads": 2}, {"micro": 2}, {"context": 32}):
        assert _trial.known(replace(load, **one), step, again, may=False) is None
    monkeypatch.setattr(_trial, "code", lambda modules, methods: {"sources": {"bloomery.train.shares": "other"}})
    assert _trial.known(load, step, again, may=False) is None  # another version of what does the steps


def test_each_optimizer_has_a_trial_of_its_own_which_another_process_finds(load):
    """One that draws numbers in its update does so by a generator, which is another object each time."""
    names = []
    for method in (AdamW(), Lion(), Spam(density=0.5), Spam(density=0.5)):
        one = replace(load, make=functools.partial(made, CFG, method))
        names.append(_trial.named(one, _forecast.rehearsed(one)[0]))
    assert len(set(names)) == 3 and names[2] == names[3]


def test_a_forecast_goes_by_the_trial(load, machine, monkeypatch):
    monkeypatch.setattr(_trial, "tried", lambda load, uneven: FOUND)
    found = _forecast.needs(load, machine)
    assert found.step == pytest.approx(2 * 0.5 + 0.25) and found.without == ""
    assert found.seconds["the trial of passes"] == pytest.approx(100 * 2 * 0.5)
    plain = _forecast.needs(load, replace(machine, effort="measured", place=None))
    beyond = sum(found.memory.values()) - sum(plain.memory.values())
    assert 2.8e9 < beyond < 3e9  # all that the trial held beyond the few megabytes of the rehearsal


def test_a_forecast_without_the_trial_that_was_asked_for_says_so(load, machine, monkeypatch):
    def killed(load, uneven):
        raise Untried("its process ended by SIGKILL")

    monkeypatch.setattr(_trial, "tried", killed)
    machine = replace(machine, place=None)
    measured = _forecast.needs(load, replace(machine, effort="measured"))
    failed = _forecast.needs(load, machine)
    assert failed.facts()["forecast_without"] == "the trial, which failed: its process ended by SIGKILL"
    assert measured.without == "" and failed.memory == measured.memory
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1.0)
    assert _forecast.needs(load, machine).without == "a trial: memory does not hold it"


def test_a_run_with_room_goes_by_the_usual_process_and_one_without_measures_it(load, machine, monkeypatch):
    from bloomery.stages import _smallest

    asked = []
    monkeypatch.setattr(_smallest, "smallest", lambda stage, compiled: asked.append(compiled) or dict.fromkeys(_smallest.FACTS, 7.0))
    load = replace(load, compiled=True)
    usual = replace(machine, effort="usual", place=None)
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)
    assert _forecast.needs(load, usual).memory["process"] == _smallest.USUAL[True]["bytes"] and not asked
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e9)
    assert _forecast.needs(load, usual).memory["process"] == 7.0 and asked == [True]
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)
    assert _forecast.needs(load, replace(usual, effort="measured")).memory["process"] == 7.0

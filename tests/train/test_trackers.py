"""Figures of every step: what they are, and what trackers are told and are not."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from small_run import curve, training

from bloomery.core.errors import BadInput, Interrupted
from bloomery.train import metrics, trackers
from bloomery.train.loop import train

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)


class Wandb(ModuleType):
    """Records what it is told."""

    def __init__(self, fails_at: int = 0) -> None:
        super().__init__("wandb")
        self.told, self.opened, self.closed, self.fails_at = [], [], [], fails_at

    def Settings(self, **given):
        return given

    def init(self, **given):
        if self.fails_at < 0:
            raise PermissionError(f"{SECRET} is not a key")
        self.opened.append(given)
        return SimpleNamespace(log=self.log, finish=lambda exit_code: self.closed.append(exit_code))

    def log(self, numbers, step):
        if step == self.fails_at:
            raise ConnectionError(f"https://user:{SECRET}@example.org is gone")
        self.told.append((step, numbers))


class Mlflow(ModuleType):
    """The same."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs, self.told, self.params, self.ended = [], [], [], []

    def set_tracking_uri(self, uri):
        self.uri = uri

    def start_run(self, run_id, run_name):
        self.runs.append(run_id)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "r1"))

    def log_params(self, params):
        self.params.append(params)

    def log_metrics(self, numbers, step, synchronous):
        self.told.append((step, numbers))

    def end_run(self, status):
        self.ended.append(status)


def test_wandb_gets_every_step_and_goes_on_with_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, polls = Wandb(), iter(range(100))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(Interrupted):
        train(training(tmp_path, report_to=("wandb",), settings={"rate": 0.01}, stopping=lambda: next(polls) == 7))
    train(training(tmp_path, report_to=("wandb",), settings={"rate": 0.01}))
    assert [step for step, _ in fake.told] == list(range(1, 21)) and fake.closed == [1, 0]
    first, second = fake.opened
    assert first["id"] == second["id"] == tmp_path.name and first["resume"] == "allow" and first["config"] == {"rate": 0.01}
    named = {"loss", "rate", "grad_norm", "tokens_per_second", "memory", "data_seconds", "eta_seconds"}
    assert named <= set(fake.told[0][1]) and fake.told[4][1]["loss"] == curve(training(tmp_path))[4]["loss"]


def test_mlflow_gets_every_step_and_goes_on_with_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, polls = Mlflow(), iter(range(100))
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(Interrupted):
        train(training(tmp_path, report_to=("mlflow",), settings={"rate": 0.01}, stopping=lambda: next(polls) == 7))
    train(training(tmp_path, report_to=("mlflow",), settings={"rate": 0.01}))
    assert fake.runs == [None, "r1"] and fake.params == [{"rate": 0.01}] and fake.ended == ["FAILED", "FINISHED"]
    assert [step for step, _ in fake.told] == list(range(1, 21)) and fake.uri.startswith("file:")


def test_a_tracker_that_fails_is_left_out_and_its_words_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from bloomery.core.log import Log

    fake = Wandb(fails_at=4)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log = Log(tmp_path / "log.jsonl", stream=sys.stderr)
    assert train(training(tmp_path, report_to=("wandb",), log=log)).clock.step == 20
    assert [step for step, _ in fake.told] == [1, 2, 3]
    written = "".join(path.read_text() for path in tmp_path.glob("*.jsonl")) + capsys.readouterr().err
    assert "report_to: wandb failed (ConnectionError) and is left out from step 4 on" in written and SECRET not in written


def test_a_tracker_that_does_not_begin_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from bloomery.core.log import Log

    fake, other = Wandb(fails_at=-1), Mlflow()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setitem(sys.modules, "mlflow", other)
    log = Log(tmp_path / "log.jsonl", stream=sys.stderr)
    assert train(training(tmp_path, report_to=("wandb", "mlflow"), log=log)).clock.step == 20
    written = "".join(path.read_text() for path in tmp_path.glob("*.jsonl")) + capsys.readouterr().err
    assert "report_to: wandb failed (PermissionError) and is left out" in written and SECRET not in written
    assert not fake.told and len(other.told) == 20


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"report_to: the package mlflow is missing: pip install 'bloomery\[track\]'"):
        trackers.demand(("mlflow",))


def test_tensorboard_reads_the_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    polls = iter(range(100))
    with pytest.raises(Interrupted):
        train(training(tmp_path, report_to=("tensorboard",), stopping=lambda: next(polls) == 7))
    train(training(tmp_path, report_to=("tensorboard",)))
    read = EventAccumulator(str(tmp_path / trackers.EVENTS)).Reload()
    assert [(one.step, pytest.approx(one.value)) for one in read.Scalars("loss")] == [
        (r["step"], r["loss"]) for r in curve(training(tmp_path))
    ]
    trackers.copy_events(tmp_path, tmp_path / "out")
    assert list((tmp_path / "out" / trackers.EVENTS).iterdir())


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_packages_themselves_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip(name)
    for variable, value in (("WANDB_MODE", "offline"), ("WANDB_API_KEY", "0" * 40), ("MLFLOW_ALLOW_FILE_STORE", "true")):
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said: list[str] = []
    run = training(tmp_path, report_to=(name,), settings={"rate": 0.01, "loss": "CrossEntropy"})
    run.log.say = said.append
    train(run)
    assert said == [] and any((tmp_path / {"wandb": "wandb", "mlflow": "mlruns"}[name]).iterdir())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"0" * 40 not in path.read_bytes() or path.suffix == ".safetensors", path


def test_every_row_has_all_figures(tmp_path: Path) -> None:
    sizes = torch.from_numpy(np.arange(50) % 4)
    run = training(tmp_path, sizes=sizes, flops_per_token=1e3, peak_flops=1e9, reads=True)
    feed = training(tmp_path).feed
    train(run)
    rows = [json.loads(line) for line in run.curve.read_text().splitlines()]
    for step, row in enumerate(rows):
        assert {"loss", "bpb", "rate", "grad_norm", *metrics.MEASURED} <= set(row)
        micros = feed.next(replace(metrics_clock(), step=step, tokens=64 * step))
        size = sum(float((sizes[one.targets] * one.weights).sum()) for one in micros)
        assert row["bpb"] == pytest.approx(row["loss"] * 64 / math.log(2) / size)
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * 1e3 / 1e9, abs=1e-4) and row["memory"] > 1e7
    assert rows[-1]["eta_seconds"] == 0 < rows[0]["eta_seconds"]


def metrics_clock():
    from bloomery.seams import Clock

    return Clock(0, 0, 64, 1280.0)


def test_the_plain_line_has_them_too() -> None:
    row = {"loss": 3.25, "bpb": 1.5, "heldout_bpb": 1.6, "rate": 2e-3, "grad_norm": 0.8123, "tokens_per_second": 12345.6, "mfu": 0.314}
    said = metrics.note({**row, "memory": 1.5e9, "data_seconds": 0.002})
    assert said == (
        "loss 3.250, 1.500 bits/byte, held out 1.600 bits/byte, rate 0.002, gradient 0.812, 12,346 tokens/s, MFU 31.4%, 1.50 GB, "
        "waited 0.002 s for data"
    )

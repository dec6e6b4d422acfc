"""Launches that meet faults: a rank killed and started again, and SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from small_pretrain import SMALL

from bloomery.core.store import Store

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.wide
STEPS = 80


def recipe(folder: Path, data: Path, **knobs) -> Path:
    place = folder / "recipe.yaml"
    long = {"tokens": 16 * 4 * STEPS, "precision": "float32", "evaluate_every": 1000}
    lm = {"stage": "pretrain", "data": str(data), **SMALL, **long, "mesh": {"data": 2}, **knobs}
    place.write_text(json.dumps({"name": "small", "steps": {"lm": lm}}))
    return place


def started(place: Path, store: Store, *more: str) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "bloomery", "run", str(place), "--store", str(store.root)]
    command += ["--quiet", "--json", "--memory", "4GB", "--patience", "60", *more]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ended(one: subprocess.Popen, seconds: float = 400.0) -> tuple[int, str, str]:
    try:
        output, said = one.communicate(timeout=seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
    return one.returncode, output, said


def rank_of(one: subprocess.Popen, rank: str) -> psutil.Process:
    """The process of a rank below a launch."""
    for each in psutil.Process(one.pid).children(recursive=True):
        with suppress(psutil.Error):
            if each.environ().get("RANK") == rank and "run" in each.cmdline():
                return each
    raise AssertionError(f"rank {rank} is not there")


def steps_of(store: Store) -> int:
    """Lines of the curve so far."""
    found = list(store.work.glob("pretrain-*/curve.jsonl"))
    return found[0].read_text().count("\n") if found else 0


def reached(one: subprocess.Popen, store: Store, step: int, seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while steps_of(store) < step:
        assert one.poll() is None and time.monotonic() < until, one.communicate()
        time.sleep(0.05)


def told(output: str) -> dict:
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output, said = ended(started(recipe(folder, tokens), Store(folder / "store"), "--processes", "2"))
    assert code == 0, said
    return told(output)


def demand_same(found: dict, wanted: dict) -> None:
    assert found["steps"] == wanted["steps"] == STEPS and found["address"] == wanted["address"]
    assert found["final_loss"] == pytest.approx(wanted["final_loss"], rel=1e-5)
    assert found["heldout_bits_per_byte"] == pytest.approx(wanted["heldout_bits_per_byte"], rel=1e-5)


def test_a_killed_rank_is_started_again_and_the_run_ends_undisturbed(tokens: Path, tmp_path: Path, store: Store, undisturbed: dict) -> None:
    one = started(recipe(tmp_path, tokens), store, "--processes", "2", "--restarts", "1")
    reached(one, store, 20)
    rank_of(one, "1").send_signal(signal.SIGKILL)
    code, output, said = ended(one)
    assert code == 0, said
    found = told(output)
    demand_same(found, undisturbed)
    assert "goes on after step" in (Path(found["folder"]) / "log.jsonl").read_text()


def test_sigterm_to_a_launch_saves_and_the_same_command_goes_on(tokens: Path, tmp_path: Path, store: Store, undisturbed: dict) -> None:
    place = recipe(tmp_path, tokens)
    one = started(place, store, "--processes", "2")
    reached(one, store, 20)
    one.terminate()
    code, _, said = ended(one)
    assert code == 75, said
    before = steps_of(store)
    assert 20 <= before < STEPS
    code, output, said = ended(started(place, store, "--processes", "2"))
    assert code == 0, said
    demand_same(told(output), undisturbed)

"""Launches that meet faults, on this machine and on a Ray cluster: a rank killed and started again, SIGTERM, a launch killed."""

from __future__ import annotations

import json
import os
import random
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


def ranks_of(store: Store) -> dict[str, psutil.Process]:
    """The processes of a launch by rank, wherever they were started."""
    found = {}
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if str(store.root) in each.cmdline() and (rank := each.environ().get("RANK")):
                found[rank] = each
    return found


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
    ranks_of(store)["1"].kill()
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


# ---- on a Ray cluster of two workers -------------------------------------------------------------------------------------


def whole(folder: Path) -> Path:
    """A recipe from documents to a model, of steps that the cluster makes and one that processes on it share."""
    draw = random.Random(0)
    words = ["def", "return", "über", "x", "self", "import", " = ", "42", "(", ")"]
    texts = ({"id": str(i), "text": " ".join(draw.choices(words, k=draw.randint(9, 60)))} for i in range(400))
    (folder / "raw.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts))
    steps = {
        "corpus": {"stage": "curate", "sources": [{"from": str(folder / "raw.jsonl"), "id": "id"}], "heldout": 0.2, "near": 0},
        "tokens": {"stage": "tokenize", "corpus": "$corpus", "vocab": 300},
        "lm": json.loads(recipe(folder, folder).read_text())["steps"]["lm"] | {"data": "$tokens"},
    }
    place = folder / "whole.yaml"
    place.write_text(json.dumps({"name": "whole", "steps": steps}))
    return place


def test_a_recipe_on_ray_ends_as_here_though_a_rank_is_killed(cluster: str, tmp_path: Path, store: Store) -> None:
    place = whole(tmp_path)
    code, output, said = ended(started(place, Store(tmp_path / "here"), "--processes", "2"))
    assert code == 0, said
    wanted = told(output)
    one = started(place, store, "--processes", "2", "--restarts", "1", "--on", f"ray:{cluster}")
    reached(one, store, 20)
    ranks_of(store)["1"].kill()
    code, output, said = ended(one)
    assert code == 0 and "killed: rank 1 (SIGKILL)" in said and "all are started again (1 of 1)" in said, said
    demand_same(told(output), wanted)
    assert "goes on after step" in (Path(told(output)["folder"]) / "log.jsonl").read_text()


def test_sigterm_to_a_launch_on_ray_saves_and_its_death_ends_all(cluster: str, tmp_path: Path, store: Store) -> None:
    place, on = whole(tmp_path), ("--processes", "2", "--on", f"ray:{cluster}")
    one = started(place, store, *on)
    reached(one, store, 20)
    one.terminate()
    code, _, said = ended(one)
    assert code == 75, said
    before = steps_of(store)
    assert 20 <= before < STEPS
    one = started(place, store, *on)
    reached(one, store, before + 5)
    ranks = ranks_of(store)
    assert sorted(ranks) == ["0", "1"]
    one.kill()
    assert psutil.wait_procs(ranks.values(), timeout=60)[1] == []
    code, output, said = ended(started(place, store, *on))
    assert code == 0 and told(output)["steps"] == STEPS, said

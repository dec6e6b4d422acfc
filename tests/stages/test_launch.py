"""Launches that meet faults, on this machine and on a Ray cluster: a rank killed and started again, SIGTERM, a launch killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from small_pretrain import SMALL

from bloomery.core.store import Store

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.wide, pytest.mark.timeout(3000)]  # whole runs in processes of their own, also on a busy machine
STEPS = 80


def recipe(folder: Path, data: Path, **knobs) -> Path:
    place = folder / "recipe.yaml"
    long = {"tokens": 16 * 4 * STEPS, "precision": "float32", "evaluate_every": 1000}
    lm = {"stage": "pretrain", "data": str(data), **SMALL, **long, "mesh": {"data": 2}, **knobs}
    place.write_text(json.dumps({"name": "small", "steps": {"lm": lm}}))
    return place


def started(place: Path, store: Store, *more: str, by: Sequence[str] = (), **told: str) -> subprocess.Popen:
    """`bloomery run`, by torchrun with the options `by`, where there are any; `told` is added to the environment."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **told}
    torchrun = ["-m", "torch.distributed.run", *by] if by else []
    command = [sys.executable, *torchrun, "-m", "bloomery", "run", str(place), "--store", str(store.root)]
    command += ["--quiet", "--json", "--memory", "4GB", "--patience", "60", *more]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ended(one: subprocess.Popen, seconds: float = 1200.0) -> tuple[int, str, str]:
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


def reached(one: subprocess.Popen, store: Store, step: int, seconds: float = 1200.0) -> None:
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


ALONE = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]


@pytest.mark.parametrize(("by", "more"), [((), ("--processes", "2", "--restarts", "1")), (ALONE, ())], ids=["processes", "torchrun"])
def test_a_killed_rank_is_started_again_and_the_run_ends_undisturbed(
    tokens: Path, tmp_path: Path, store: Store, undisturbed: dict, by: Sequence[str], more: Sequence[str]
) -> None:
    one = started(recipe(tmp_path, tokens), store, *more, by=by)
    reached(one, store, 20)
    ranks_of(store)["1"].kill()
    code, output, said = ended(one)
    assert code == 0, said
    demand_same(told(output), undisturbed)
    assert "goes on after step" in (Path(told(output)["folder"]) / "log.jsonl").read_text()


def test_a_refusal_is_not_started_again(tokens: Path, tmp_path: Path, store: Store) -> None:
    """A mesh of three on two processes is refused by the first one, and is no better the second time."""
    code, _, said = ended(started(recipe(tmp_path, tokens, mesh={"data": 3}), store, "--processes", "2", "--restarts", "3"))
    assert code == 2 and said.count("2 were started") == 1 and "started again" not in said, said


def test_two_machines_of_torchrun_start_again_together(tokens: Path, tmp_path: Path, store: Store, undisturbed: dict) -> None:
    """Two agents of torchrun, each with one process, meet as those of two machines do."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meet = f"localhost:{free.getsockname()[1]}"
    by = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", meet]
    place = recipe(tmp_path, tokens)
    both = [started(place, store, by=[*by, "--local-addr", "localhost"]) for _ in range(2)]
    reached(both[0], store, 20)
    ranks_of(store)["1"].kill()
    done = [ended(one) for one in both]
    assert [code for code, _, _ in done] == [0, 0], done
    (output,) = [output for _, output, _ in done if output.strip()]
    demand_same(told(output), undisturbed)


def test_tasks_of_srun_train_together(tokens: Path, tmp_path: Path, store: Store, undisturbed: dict) -> None:
    place, step = recipe(tmp_path, tokens), {"JOB_ID": str(os.getpid()), "STEP_ID": "0", "STEP_NUM_TASKS": "2", "STEP_NUM_NODES": "1"}
    step |= {"NODEID": "0", "STEP_TASKS_PER_NODE": "2", "STEP_NODELIST": "localhost"}
    named = {f"SLURM_{name}": value for name, value in step.items()}
    done = [ended(one) for one in [started(place, store, **named, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in "01"]]
    assert [code for code, _, _ in done] == [0, 0], done
    demand_same(told(done[0][1]), undisturbed)


def test_another_bloomery_on_a_rank_is_refused_before_the_first_step(tokens: Path, tmp_path: Path, store: Store) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    with open(tmp_path / "src" / "bloomery" / "train" / "loop.py", "a", encoding="utf-8") as file:
        file.write("\n# another version\n")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place, named = recipe(tmp_path, tokens), {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    first = started(place, store, **named, RANK="0")
    code, _, said = ended(started(place, store, **named, RANK="1", PYTHONPATH=str(tmp_path / "src")))
    first.kill()  # what torchrun does
    ended(first)
    assert code == 2 and "rank 1 has other source of bloomery than rank 0; install the same on all machines" in said
    assert steps_of(store) == 0


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
        "tokens": {"stage": "tokenize", "corpus": "$corpus", "vocab": 280},
        "lm": json.loads(recipe(folder, folder).read_text())["steps"]["lm"] | {"data": "$tokens"},
    }
    place = folder / "whole.yaml"
    place.write_text(json.dumps({"name": "whole", "steps": steps}))
    return place


@pytest.mark.parametrize("by", ["cluster", "client"])
def test_a_recipe_on_ray_ends_as_here_though_a_rank_is_killed(
    request: pytest.FixtureRequest, tmp_path: Path, store: Store, by: str
) -> None:
    place, address = whole(tmp_path), request.getfixturevalue(by)
    code, output, said = ended(started(place, Store(tmp_path / "here"), "--processes", "2"))
    assert code == 0, said
    wanted = told(output)
    on = address if by == "client" else f"ray:{address}"
    one = started(place, store, "--processes", "2", "--restarts", "1", "--on", on)
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

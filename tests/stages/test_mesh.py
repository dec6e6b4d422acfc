"""Recipes whose training steps several processes share: only the launch is changed, and the artifact is that of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from small_pretrain import SMALL, stage
from small_pretrain import made as in_one_process

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.ranks import Ranks
from bloomery.core.store import Store
from bloomery.nn.config import Config
from bloomery.stages import _mesh

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bloomery"]
PLAIN = [sys.executable, "-m", "bloomery"]


def recipe(folder: Path, data: Path, **knobs) -> Path:
    place = folder / "recipe.yaml"
    lm = {"stage": "pretrain", "data": str(data), **SMALL, "kv_heads": 2, "heads": 2, **knobs}
    place.write_text(json.dumps({"name": "small", "steps": {"lm": lm}}))
    return place


def run(command: list[str], *more: str, seconds: float = 200.0) -> subprocess.CompletedProcess:
    """A command and all that it starts, which ends within so many seconds."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    one = subprocess.Popen([*command, *more], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, said = one.communicate(timeout=seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, one.returncode, output, said)


def made(command: list[str], place: Path, store: Store, *more: str) -> dict:
    """What `run --json` tells of the model, and the files of the artifact."""
    done = run(command, "run", str(place), "--store", str(store.root), "--quiet", "--json", "--memory", "4GB", *more)
    assert done.returncode == 0, done.stderr
    (told,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert told["step"] == "lm" and not list(store.work.iterdir())
    return told


def other(store: Store, name: str) -> Store:
    """A second store on the same machine."""
    opened = Store(store.root.parent / name)
    (opened.root / "machine.json").write_bytes((store.root / "machine.json").read_bytes())
    return opened


def test_processes_share_a_step_and_one_writes_the_artifact(tokens: Path, tmp_path: Path, store: Store) -> None:
    alone = in_one_process(tokens, tmp_path / "alone", precision="float32")
    two = made(PLAIN, recipe(tmp_path, tokens, precision="float32"), store, "--processes", "2")
    assert two["mesh"] == {"data": 2} and "mesh" not in alone.facts
    for name in ("tokens", "steps", "parameters", "audit"):
        assert two[name] == alone.facts[name]
    for name in ("final_loss", "heldout_bits_per_byte", "heldout_nats"):
        assert two[name] == pytest.approx(alone.facts[name], rel=1e-5)
    assert {path.name for path in Path(two["folder"]).iterdir()} == {path.name for path in alone.out.iterdir()} | {"card.json", "log.jsonl"}


@pytest.mark.wide
def test_torchrun_starts_a_sharded_run(tokens: Path, tmp_path: Path, store: Store) -> None:
    alone = made(PLAIN, recipe(tmp_path, tokens, precision="float32"), store)
    for number, knobs in enumerate(({"mesh": {"shard": 2}}, {"mesh": {"pipeline": 2}}, {"mesh": {"tensor": 2}})):
        found = made(TORCHRUN, recipe(tmp_path, tokens, precision="float32", **knobs), other(store, str(number)))
        assert found["mesh"] == knobs["mesh"] and found["address"] == alone["address"]
        assert found["final_loss"] == pytest.approx(alone["final_loss"], rel=1e-5)


@pytest.mark.wide
def test_a_mesh_that_does_not_fit_the_launch_is_refused_once_before_any_work(tokens: Path, tmp_path: Path, store: Store) -> None:
    place = recipe(tmp_path, tokens, mesh={"tensor": 3})
    done = run(PLAIN, "run", str(place), "--store", str(store.root), "--memory", "4GB", "--processes", "2")
    said = [line for line in done.stderr.splitlines() if "mesh:" in line]
    assert done.returncode == 2 and len(said) == 1, done.stderr
    assert "{tensor: 3} takes 3 processes and 2 were started; say `mesh: {tensor: 2}` or start 3 processes" in said[0]
    assert not list(store.work.iterdir()) and not list(store.artifacts.iterdir())


@pytest.mark.parametrize(
    ("size", "knobs", "said"),
    [
        (1, {"mesh": {"data": 2}}, "takes 2 processes and 1 was started; say `mesh: {}`"),
        (3, {"mesh": {"tensor": 3}}, "tensor 3 does not divide 2 heads; say `mesh: {data: 3}`"),
        (2, {"mesh": {"context": 2}, "context": 15, "batch": 60}, "context 2 does not divide rows of 15 tokens; say `mesh: {data: 2}`"),
        (2, {"mesh": {"data": 2}, "backward": "private"}, "backward: private needs all rows of a step in one process"),
        (2, {"mesh": {"expert": 2}}, "expert divides experts, and this model has none; say `mesh: {data: 2}`"),
        (3, {"mesh": {"pipeline": 3}}, "pipeline 3 makes 3 stages of 2 layers; say `mesh: {data: 3}`"),
        (2, {"mesh": {"shard": 2}, "saved": "recompute"}, "saved: it goes with copies of the whole model, and shard cuts it"),
        (2, {"mesh": {"context": 2}, "compile": "on"}, "compile: ulysses does not go with compiled blocks"),
        (
            2,
            {"mesh": {"pipeline": 2}, "layers": 4, "compile": "on", "parallel": ["zero_bubble"]},
            "compile: zero_bubble does not go with compiled blocks",
        ),
        (2, {"mesh": {"context": 2}, "parallel": ["ring", "ulysses"]}, "ring and ulysses both lay out the axis context"),
        (
            2,
            {"mesh": {"context": 2}, "loss": "distill", "roles": {"teacher": None}},
            "a further model reads whole rows",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(tokens: Path, monkeypatch: pytest.MonkeyPatch, size: int, knobs: dict, said: str) -> None:

    monkeypatch.setattr(_mesh, "here", lambda: Ranks(0, size))
    one = stage(tokens, **knobs)
    cfg: Config = one.config(300)
    with pytest.raises(BadInput) as refused:
        one.launch(Forecast(facts={"config": asdict(cfg)}))
    assert said in str(refused.value)

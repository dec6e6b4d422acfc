"""Two copies of the small run that step by themselves, and runs of two ranks of which one is slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch.distributed as dist
from mesh_run import figures, laid, mesh_of
from small_run import shards
from torch import Tensor

from bloomery.core.errors import Interrupted
from bloomery.seams import Clock
from bloomery.train.loop import train
from bloomery.train.run import Training
from bloomery.train.traffic import Traffic

EVERY, LAG = 5, 15.0
LOCAL = {"diloco": {"every": EVERY, "rate": 0.7, "momentum": 0.5}}


@dataclass(frozen=True)
class Plain:
    """The gradient itself."""

    scope = "element"

    def init(self, like: Tensor) -> dict[str, Tensor]:
        return {}

    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng) -> Tensor:
        return g.clone()


def made(folder: Path, name: str, methods: list, **changes) -> Training:
    """The run of tests/train/mesh_run.py over two copies, in a folder of its own."""
    here = folder / name
    here.mkdir(exist_ok=True)
    if dist.get_rank() == 0 and not (here / "data").exists():
        shards(here / "data")
    dist.barrier()
    return laid(here, mesh_of({"data": 2}, ["zero", *methods]), **changes)


def weights(run: Training) -> Tensor:
    return run.optimizer.master.clone()


def mean(folder: Path) -> float:
    """The largest relative difference between an outer step after every step, of rate 1 without momentum, and shared gradients."""
    one = {"diloco": {"every": 1, "rate": 1.0, "momentum": 0.0}}
    ends = []
    for name, methods in (("local", [one]), ("shared", [])):
        run = made(folder, f"mean-{name}", methods)
        run.optimizer.method = run.optimizer.rest = Plain()
        run.optimizer.states = {"": {}}
        run = replace(run, backward=replace(run.backward, clip=0.0), rate=0.5)
        train(run)
        ends.append(weights(run))
    return float((ends[0] - ends[1]).norm() / ends[1].norm())


def sent(folder: Path, name: str, methods: list) -> tuple[Training, int, list[bool]]:
    """A run, what it sends beside figures, and after which steps the ranks' weights differ."""
    run, found = made(folder, name, methods), []
    after = run.mesh.after

    def watched(mover, step: int, last: bool) -> None:
        after(mover, step, last)
        found.append(run.mesh.apart({"master": mover.master}) > 0)

    run.mesh.after = watched
    with Traffic() as counted:
        train(run)
    return run, counted.bytes["all_reduce"], found


def stopped(folder: Path, whole: Training) -> tuple[int, float]:
    """A run that is asked to stop after step 7, and goes on: where it stopped, and how its weights differ from the undisturbed ones."""
    part, steps = made(folder, "part", [LOCAL]), []
    part.stopping = lambda: steps.append(1) or len(steps) >= 7
    with suppress(Interrupted):
        train(part)
    at = len(figures(part))
    again = made(folder, "part", [LOCAL])
    train(again)
    return at, float((weights(again) - weights(whole)).norm() / weights(whole).norm())


def everything(folder: str) -> None:
    place = Path(folder)
    told = {"mean": mean(place)}
    run, told["sent"], told["apart"] = sent(place, "sent", [LOCAL])
    shared, told["shared_sent"], _ = sent(place, "shared", [])
    numbers = len(run.optimizer.master)
    told["formula"] = 4 * 3 * round(2 * (2 - 1) / 2 * 4 * numbers)  # four outer steps: weights and two moments
    told["first"], told["loss"], told["shared_loss"] = figures(run)[0]["loss"], figures(run)[-1]["loss"], figures(shared)[-1]["loss"]
    told["stopped"], told["resumed"] = stopped(place, run)
    if dist.get_rank() == 0:
        print("TOLD" + json.dumps(told))


def lagging(folder: str, mesh: str, how: str) -> None:
    """A run in which rank 1 sleeps, or is stopped and let go, for LAG seconds at step 9: the first process prints what its log says."""
    place = Path(folder)
    if dist.get_rank() == 0:
        shards(place / "data")
    dist.barrier()
    sizes, methods = {"data": ({"data": 2}, ["zero"]), "shard": ({"shard": 2}, ["zero"])}[mesh]
    said: list[str] = []
    run = laid(place, mesh_of(sizes, methods))
    run.log.say = said.append

    def before(clock: Clock) -> None:
        if clock.step != 8:
            return
        run.mesh.pace.named.clear()  # whoever was late before, as on a busy machine, is named again
        if dist.get_rank() == 0:
            return
        if how == "sleep":
            time.sleep(LAG)
        else:
            code = f"import os, signal, time; time.sleep({LAG}); os.kill({os.getpid()}, signal.SIGCONT)"
            subprocess.Popen([sys.executable, "-S", "-c", code])
            os.kill(os.getpid(), signal.SIGSTOP)

    train(replace(run, before_step=before))
    if dist.get_rank() == 0:
        print("TOLD" + json.dumps([line for line in said if "slow" in line]))

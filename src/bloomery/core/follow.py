"""What the other processes of a launch do: wait until the first calls, and do their part of that step."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.core.executors import Local
from bloomery.core.job import Job
from bloomery.core.log import Log
from bloomery.core.recipe import Recipe
from bloomery.core.signals import Signals
from bloomery.core.store import Store
from bloomery.core.team import END, Team, demand_same, identity
from bloomery.core.walk import addressed, build, named_troubles
from bloomery.seams import Rng

SHOWN = 60.0  # seconds that a network disk may take to show what another machine has made


def follow(recipe: Recipe, store: Store, team: Team) -> int:
    """The exit code with which the first process dismisses. The store is that of the first process: inputs are read from it."""
    signals = Signals()
    with signals.listening():
        for order in team.orders():
            if order["step"] == END:
                return order["exit"]
            take_part(order, recipe, store, team, signals)
    return 1


def take_part(order: dict[str, Any], recipe: Recipe, store: Store, team: Team, signals: Signals) -> None:
    """This process's part of one step. It writes nothing of the artifact; what it keeps for itself lies in the step's work folder."""
    planned = addressed(recipe, store)
    if order["step"] not in planned:
        raise BadInput(f"rank {team.ranks.rank} has another recipe than rank 0; give all the same file")
    entry = planned[order["step"]]
    demand_same(team.ranks.rank, order, identity(entry.card))
    step, stage = entry.step, entry.step.stage.name
    shared = store.work / f"{stage}-{entry.address[:16]}"
    demand_shared(shared / "out", team.ranks.rank)
    work = shared / f"rank-{team.ranks.rank}"
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    log = Log(work / "log.jsonl", step.name, quiet=True)
    job = Job(out, work, Rng((step.seed, stage)), step.seed, log, Local(), store, recipe.resolved(), signals, ranks=team.ranks)
    with named_troubles(step.place, store):
        build(step, planned, store).run(job)
    log.close()


def demand_shared(folder: Path, rank: int) -> None:
    """BadInput where the folder that the first process has just made does not show here, in the time that a network disk may take."""
    until = time.monotonic() + SHOWN
    while not folder.is_dir():
        if time.monotonic() > until:
            told = f"rank {rank} does not see {folder}, where rank 0 works"
            raise BadInput(f"{told}; the store must lie on a disk that all machines share: choose --store, then run again")
        time.sleep(min(0.5, SHOWN))

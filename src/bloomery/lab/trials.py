"""Trials: ordinary recipes run into the store, as many at a time as there are cores, each on one thread.

The number of threads is part of a result's address, so a trial is always computed on one: whatever the machine, equal trials have
equal addresses, and the second to ask for one finds it made.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput, Busy, CheckFailed, Interrupted
from bloomery.core.machine import threads
from bloomery.core.store import Store
from bloomery.core.workers import processes, without_main

DIVERGED = "not finite"  # what the training loop says of a loss or gradient that is no number
WAIT = 0.5  # seconds between two looks at a trial that another process is making


@dataclass(frozen=True)
class Outcome:
    """A finished trial: its artifacts by step, or the sentence with which its training diverged."""

    made: Mapping[str, str] = field(default_factory=dict)  # step -> name of the artifact
    fresh: bool = False  # something was computed; otherwise the store had all
    seconds: float = 0.0
    diverged: str = ""


def key(recipe: Mapping[str, Any]) -> str:
    """Equal for recipes that differ in their names only."""
    return json.dumps({"seed": recipe["seed"], "steps": recipe["steps"]}, sort_keys=True, default=str)


def carry_out(task: tuple[str, dict[str, Any]]) -> Outcome:
    """Run one recipe in this process, on one thread; waits where another process is making the same."""
    root, recipe = task
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, which the first trial of a worker does
    from bloomery.core.recipe import parse
    from bloomery.core.walk import run

    began, at = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    read = parse(recipe, f"the trial {recipe['name']}")
    while True:
        try:
            planned = run(read, Store(root), quiet=True, record=False)
        except Busy:
            time.sleep(WAIT)
        except Interrupted as stopped:  # begun, then another process was making the next step
            if "is being made" not in str(stopped):
                raise
            time.sleep(WAIT)
        except CheckFailed as failed:
            if DIVERGED not in str(failed):
                raise
            return Outcome(fresh=True, seconds=time.monotonic() - began, diverged=str(failed))
        else:
            made = {entry.step.name: entry.made for entry in planned}
            fresh = any(one.card["made"] >= at for one in made.values())
            return Outcome({step: one.name for step, one in made.items()}, fresh, time.monotonic() - began)


def call(task: tuple[str, str, Any]) -> Any:
    """A function of a claim, by file and name, applied to one item in a worker."""
    file, name, item = task
    os.environ["OMP_NUM_THREADS"] = "1"
    from bloomery.lab.claims import load

    return getattr(load(Path(file)), name)(item)


def apply(task: tuple[Callable[[Any], Any], Any]) -> Any:
    """A function that is importable by its own name, applied to one item in a worker."""
    function, item = task
    os.environ["OMP_NUM_THREADS"] = "1"
    return function(item)


class Bench:
    """Workers over one store. A trial asked for twice is one trial; `close` ends the workers, `now` also in the midst of a trial, which
    goes on from its checkpoint when it is asked for again."""

    def __init__(self, store: Store, workers: int = 0):
        self.store, self.workers = store, workers or threads()
        self.inline = self.workers == 1 and threads() == 1
        self.known: dict[str, Future[Outcome]] = {}
        self.lock, self.asking = threading.Lock(), threading.Lock()
        self.pool: ProcessPoolExecutor | None = None
        self.others: set[int | None] = set()

    def trial(self, recipe: Mapping[str, Any]) -> tuple[Future[Outcome], bool]:
        """The outcome to come of a recipe, and whether it was asked for the first time."""
        name = key(recipe)
        with self.asking:
            found = self.known.get(name)
            if found is not None and not _failed(found):
                return found, False
            self.known[name] = self.submit(carry_out, (str(self.store.root), dict(recipe)))
            return self.known[name], True

    def submit(self, function: Callable[[Any], Any], task: Any) -> Future[Any]:
        """A function of this module on one task: in a worker, or here and now where this process is the only one."""
        if self.inline:
            done: Future[Any] = Future()
            try:
                done.set_result(function(task))
            except Exception as wrong:
                done.set_exception(wrong)
            return done
        with self.lock, without_main():
            if self.pool is None:
                self.others = {child.pid for child in multiprocessing.active_children()}
                self.pool = processes(self.workers)
            return self.pool.submit(function, task)

    def close(self, now: bool = False) -> None:
        with self.lock:
            pool, self.pool = self.pool, None
        if pool is None:
            return
        if now:
            for child in multiprocessing.active_children():
                if child.pid not in self.others:
                    child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _failed(future: Future[Outcome]) -> bool:
    return future.cancelled() or (future.done() and future.exception() is not None)


def result(future: Future[Any]) -> Any:
    """What a future holds; BadInput for a worker that was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise BadInput("a worker process was killed, most likely for want of memory: free some, then say the same again") from None

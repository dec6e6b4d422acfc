"""What a training step of a method takes by itself: short runs with nothing of ours beside them, the methods in turns.

The seconds of a trial's own steps say little of its method: other trials ran beside them, and one that the store had was made under
whatever load there was then. So once the trials are done each method trains a few steps anew with the settings of its best one, on one
thread, one run after the other: A B C A B C A B C, so that load from outside falls on all alike.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

STEPS = 56  # of a timed run: some methods do something only every 50 steps, which should be seen once
WARM = 4  # of them, the first, do not count
TURNS = 3
START = 1.0  # seconds of a timed run beside its steps (measured: 0.3, and 3 in a worker that has yet to import torch)


@dataclass(frozen=True)
class Pace:
    """Seconds of a step: of each counted one the median, the least and the most over the turns, of these the means."""

    seconds: float
    least: float
    most: float

    def told(self) -> dict[str, float]:
        """As JSON."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


def pace(turns: Sequence[Sequence[float]]) -> Pace:
    """From the steps of every turn. The same step does the same work in each, so that its median leaves out what came from outside,
    and the mean over steps keeps what a method does only now and then."""
    return Pace(*(statistics.fmean(map(of, zip(*turns))) for of in (statistics.median, min, max)))


def alone(recipes: Mapping[str, Any], timed_run: Callable[[Any], Sequence[float]]) -> dict[str, Pace]:
    """The pace of each method, from runs in turns; a method whose runs give no step has none."""
    turns: dict[str, list[Sequence[float]]] = {method: [] for method in recipes}
    for _ in range(TURNS):
        for method, recipe in recipes.items():
            if found := timed_run(recipe):
                turns[method].append(found)
    return {method: pace(found) for method, found in turns.items() if found}


def timed(task: tuple[str, dict[str, Any]]) -> list[float]:
    """In a worker: seconds of the counted steps of a short run of a trial's settings, which leaves nothing in the store. Empty where
    the short run did not come to its end."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, as for trials
    from bloomery.core import walk
    from bloomery.core.errors import CheckFailed
    from bloomery.core.executors import Local
    from bloomery.core.job import Job
    from bloomery.core.log import Log
    from bloomery.core.recipe import parse
    from bloomery.core.signals import Signals
    from bloomery.core.store import Store
    from bloomery.seams import Rng

    root, recipe = task
    store, step = Store(root), parse(recipe, f"the timing of {recipe['name']}").steps["trial"]
    stage = short(walk.build(step, {}, store))
    with tempfile.TemporaryDirectory(prefix="bloomery-timing-") as folder:
        out, work = Path(folder) / "out", Path(folder) / "work"
        out.mkdir()
        work.mkdir()
        rng = Rng((step.seed, step.stage.name))
        try:
            stage.run(Job(out, work, rng, step.seed, Log(quiet=True), Local(), store, {}, Signals()))
        except CheckFailed:
            return []
        return steps_of(work / "curve.jsonl")[WARM:]


def short(stage: Any) -> Any:
    """The same run with few steps and no measurement between them, compiled if the whole one is."""
    compiled = "on" if stage.mode()["compile"] else "off"
    own = {"compile": compiled, "checkpoint_seconds": 3600.0, "checkpoint_steps": 0, "keep_state": False}
    return replace(stage, tokens=STEPS * stage.rows * stage.context, evaluate_every=STEPS + 1, evaluate_tokens=1, **own)


def steps_of(curve: Path) -> list[float]:
    """Seconds of each step of a curve, without measurements and checkpoints."""
    rows = [{"tokens": 0}, *(json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines())]
    return [(row["tokens"] - before["tokens"]) / row["tokens_per_second"] for before, row in pairwise(rows) if row["tokens_per_second"]]


def forecast(took: Mapping[str, float], steps: int) -> float:
    """Seconds that timing methods will take, from those of a trial of each, which has so many steps."""
    return TURNS * sum(START + seconds * STEPS / steps for seconds in took.values())

"""One trial of a comparison, in a worker, and whose fault it is where it fails: that of its settings, or of something beside them."""

from __future__ import annotations

import time
from typing import Any

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.inputs import given
from bloomery.core.recipe import parse
from bloomery.core.store import Store
from bloomery.core.walk import StepFailed
from bloomery.lab import trials


def attempt(task: tuple[str, dict[str, Any]]) -> trials.Outcome:
    """A trial in a worker. What is the fault of its settings is an outcome; a full disk or memory, or a damaged input, is not."""
    began = time.monotonic()
    try:
        return trials.carry_out(task)
    except (CheckFailed, BadInput, StepFailed) as wrong:
        if not isinstance(wrong, CheckFailed) and not refused(wrong, task):
            raise
        return trials.Outcome(fresh=True, seconds=time.monotonic() - began, diverged=str(wrong))


def refused(wrong: BadInput | StepFailed, task: tuple[str, dict[str, Any]]) -> bool:
    """Whether the step refused its settings, when it was planned or at work: the walk then names its place. BadInput where it is an
    input that is not whole."""
    store, step = Store(task[0]), parse(task[1], "compare").steps["trial"]
    if wrong.__cause__ is not None or not str(wrong).startswith(f"{step.place}: "):
        return False
    for one in (given(ref, store, step, name) for name, refs in step.inputs.items() for ref in refs):
        if differ := store.verify(one) if one.card.get("files") else []:
            raise BadInput(
                f"{one.name} is damaged: {differ[0]} is not what its card says; `bloomery rm {one.name}`, then run again"
            ) from wrong
    return True

"""Settings of a training stage that need less memory and leave what is learned from a step as it is: the same tokens in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import Machine

AGAIN = (["mlp"], ["block"])  # sites that are computed twice: the first costs less time, the second more and leaves less
RANKS = (16, 8, 4)


@dataclass(frozen=True)
class Fit:
    """Knobs as a recipe has them, and what the run then needs."""

    knobs: dict[str, Any]
    memory: float
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(f"{name}: {written(value)}" for name, value in self.knobs.items())
        return f"`{told}` ({self.memory / 1e6:,.0f} MB, {self.seconds:,.0f} s)"


def fitting(stage: Any, forecast: Forecast, inputs: dict[str, Forecast], machine: Machine, limit: float) -> list[Fit]:
    """Settings whose forecast is at most `limit` bytes, those that take least time first; [] where none was found.

    Of each kind of change the mildest that suffices; where none does by itself, the strongest ones upon each other.
    """
    found: list[Fit] = []
    for group in changes(stage, forecast):
        for knobs in group:
            if (fit := tried(stage, knobs, inputs, machine)).memory <= limit:
                found.append(fit)
                break
    knobs: dict[str, Any] = {}
    for group in () if found else changes(stage, forecast):
        fit = tried(stage, knobs | group[-1], inputs, machine)
        if fit.memory <= limit:
            found.append(fit)
            break
        knobs = knobs if math.isinf(fit.memory) else fit.knobs
    return sorted(found, key=lambda fit: fit.seconds)


def tried(stage: Any, knobs: dict[str, Any], inputs: dict[str, Forecast], machine: Machine) -> Fit:
    """The forecast of the stage with some knobs changed; without end where they do not go with the others, such as its mesh."""
    made = replace(stage, **{name: built(name, value) for name, value in knobs.items()})
    try:
        told = made.forecast(inputs, replace(machine, effort="measured"))
    except BadInput:
        return Fit(knobs, math.inf, math.inf)
    return Fit(knobs, told.memory, told.seconds)


def built(name: str, value: Any) -> Any:
    """A knob's value as the stage has it."""
    seams = {"saved": "saved", "optimizer": "optim", "rest": "optim", "adapter": "adapter"}
    return catalog.build_method(seams[name], value) if name in seams else value


def changes(stage: Any, forecast: Forecast) -> list[list[dict[str, Any]]]:
    """Kinds of changes, each from the mildest to the strongest; those that change no number of the run first."""
    groups = [[{"micro": micro} for micro in smaller(forecast)]]
    if hasattr(stage, "saved") and stage.saved is None:
        groups.append([{"saved": {"recompute": {"sites": sites}}, **eager(stage)} for sites in AGAIN])
    if stage.mode()["precision"] == "float32":
        groups.append([{"precision": "bfloat16"}])
    return [group for group in (*groups, list(lighter(stage)), list(adapted(stage))) if group]


def smaller(forecast: Forecast) -> list[int]:
    """Rows of smaller micro-batches, the larger ones first: each divides the one before about in two."""
    now, rows = int(forecast.facts["micro"]), int(forecast.facts["rows"])
    fewer = [n for n in range(now - 1, 0, -1) if rows % n == 0]
    kept: list[int] = []
    for n in fewer:
        if n == 1 or not kept or n <= kept[-1] // 2:
            kept.append(n)
    return kept


def eager(stage: Any) -> dict[str, Any]:
    """What is computed twice is not compiled."""
    return {"compile": "off"} if stage.compile in (True, "on") else {}


def lighter(stage: Any) -> Iterator[dict[str, Any]]:
    """An optimizer of one number for each parameter, where there are two; its rate is another."""
    if next(iter(catalog.spec(stage.optimizer))) == "adamw":
        yield {"optimizer": "lion", "rate": stage.rate / 5}


def adapted(stage: Any) -> Iterator[dict[str, Any]]:
    """An adapter instead of all weights, where the stage has one for that (`adapter_instead`), or one of a lower rank."""
    instead = getattr(stage, "adapter_instead", "")
    if getattr(stage, "adapter", None) is None and not instead:
        return
    rank = getattr(stage.adapter, "rank", None) if stage.adapter is not None else 2 * RANKS[0]
    if rank is None:
        return
    old = {} if stage.adapter is None else next(iter(catalog.spec(stage.adapter).values()))
    name = instead if stage.adapter is None else next(iter(catalog.spec(stage.adapter)))
    for lower in RANKS:
        if lower < rank:
            yield {"adapter": {name: {**old, "rank": lower}}}


def written(value: Any) -> str:
    """As YAML has it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)

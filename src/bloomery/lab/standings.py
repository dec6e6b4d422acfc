"""How far a trial got and when: targets on held-out text, the first measurement at or below one, and the order of methods.

After AlgoPerf (P011, Dahl et al. 2023, arXiv 2306.07179): what counts is the time to a target, of the best configuration that an
equal search found. Of a training run it is the number of steps times what a step of the method takes by itself (lab/timing.py), without
measurements and checkpoints; of a compressed copy it is what its card says, measured as it was made, with other trials beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bloomery.core.errors import BadInput, near

FIGURES = {"loss": ("heldout_nats", "nats per token"), "bits": ("heldout_bpb", "bits per byte")}
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
By = Literal["seconds", "tokens", "bytes"]


@dataclass(frozen=True)
class Target:
    """What is measured, and how low it should get; without a limit the last measurement decides."""

    figure: str = "heldout_nats"  # as rows of a curve name it
    unit: str = "nats per token"
    limit: float | None = None
    amount: Literal["tokens", "bytes"] = "tokens"  # what a measurement stands at: tokens trained on, or bytes that a copy's linears take

    def __str__(self) -> str:
        name = next(short for short, (figure, _) in FIGURES.items() if figure == self.figure)
        return name if self.limit is None else f"{name}<={self.limit:g}"


def read_target(text: str) -> Target:
    """`loss<=2.1` (held-out nats per token), `bits<=1.9` (bits per byte), or one of the two names alone."""
    name, at_most, limit = text.replace(" ", "").partition("<=")
    write = "write it as loss<=2.1 (held-out nats per token) or bits<=1.9 (bits per byte)"
    if not re.fullmatch(r"[A-Za-z_]+", name):
        raise BadInput(f"--target {text!r}: {write}")
    if name not in FIGURES:
        raise BadInput(f"--target {text!r}: there is no figure '{name}' ({near(name, list(FIGURES))}); {write}")
    try:
        value = float(limit) if at_most else None
    except ValueError:
        value = math.nan
    if value is not None and not 0 < value < math.inf:
        raise BadInput(f"--target {text!r}: {limit or 'nothing'} is no positive number; {write}")
    return Target(*FIGURES[name], value)


def read_budget(text: str) -> float:
    """Seconds of `90s`, `30m`, `2h`, `1h30m`; a bare number is seconds, and "" has no end."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if "".join(f"{number}{unit}" for number, unit in parts) != text.strip() or (text.strip() and not parts):
        raise BadInput(f"--budget {text!r}: write it as 90s, 30m, 2h or 1h30m")
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts) if parts else math.inf
    if seconds <= 0:
        raise BadInput(f"--budget {text!r}: nothing can be done in no time")
    return seconds


@dataclass(frozen=True)
class Ended:
    """One trial of a comparison. `points` are its measurements (tokens or bytes, seconds or None where none are known, figure)."""

    method: str
    place: int
    knobs: dict[str, Any]
    artifact: str = ""
    failed: str = ""
    points: list[tuple[float, float | None, float]] = field(default_factory=list)
    took: float = 0.0  # seconds of the whole trial when it was computed, whatever ran beside it

    @property
    def final(self) -> float:
        """The last measurement; infinite where there is none."""
        return self.points[-1][2] if self.points else math.inf

    def reached(self, target: Target) -> dict[str, float | None] | None:
        """Tokens (or bytes) and seconds at the first measurement at or below the target."""
        if target.limit is None:
            return None
        found = next((point for point in self.points if point[2] <= target.limit), None)
        return {target.amount: found[0], "seconds": found[1]} if found else None

    def key(self, target: Target, by: By) -> tuple[int, float, float, int]:
        """What puts trials in order, the best least: by when (or in how few bytes) they reach the target, of equal ones the lower end;
        then by how near they came. The last part, its place, orders the trials of one method alone."""
        if self.failed:
            return 2, 0.0, 0.0, self.place
        found = self.reached(target)
        if found is None:
            return 1, self.final, 0.0, self.place
        amount = found[by]
        return 0, math.inf if amount is None else amount, self.final, self.place

    def told(self, target: Target) -> dict[str, Any]:
        """As JSON."""
        found = self.reached(target) or {target.amount: None, "seconds": None}
        return {
            "method": self.method, "trial": self.place, "knobs": self.knobs, "final": self.final if self.points else None,
            f"{target.amount}_to_target": found[target.amount],
            "seconds_to_target": found["seconds"], "artifact": self.artifact, "failed": self.failed,
            "took": round(self.took, 3), "points": self.points,
        }  # fmt: skip


def points(curve: Path, figure: str, pace: float | None) -> list[tuple[float, float | None, float]]:
    """(tokens, seconds, figure) wherever the figure was measured; seconds are the steps until then, at `pace` seconds each."""
    found = []
    for i, line in enumerate(curve.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        if isinstance(row.get(figure), int | float):
            found.append((float(row["tokens"]), None if pace is None else round(i * pace, 3), float(row[figure])))
    return found


def ranking(trials: Sequence[Ended], target: Target, by: By) -> list[dict[str, Any]]:
    """A row for each method, the best first: its best trial, its median one (of an even number the worse), how many got how far.

    Methods whose best trials are equal share a rank, and the next one has that of its row.
    """
    rows = []
    for method in dict.fromkeys(one.method for one in trials):
        own = sorted((one for one in trials if one.method == method), key=lambda one: one.key(target, by))
        row = {"method": method, "trials": len(own), "failed": sum(bool(one.failed) for one in own)}
        row["reached"] = sum(one.reached(target) is not None for one in own)
        rows.append((own[0].key(target, by)[:-1], {**row, "best": own[0].told(target), "median": own[len(own) // 2].told(target)}))
    rows.sort(key=lambda row: row[0])
    keys = [key for key, _ in rows]
    return [{"rank": keys.index(key) + 1, **row} for key, row in rows]


def settings(knobs: Mapping[str, Any]) -> str:
    """Knobs in one line."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in knobs.items())

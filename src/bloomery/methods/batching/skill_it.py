from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data import mixing
from bloomery.seams import Batching, Clock, Pool, Rng

Pieces = list[tuple[int, int, int]]
FIGURE = "heldout_nats/"


@dataclass(frozen=True)
class SkillIt:
    """More of the skills that are not yet learned, and of those that they need: weights follow the held-out loss of each domain.

    P140 Chen et al. 2023, arXiv 2307.14430
    Differs: a skill is a domain; the prerequisite graph is given, not estimated by short runs; a loss counts by its share of the first
        one measured (`relative`), since domains differ in what cannot be learned; shares are met without a draw.
    Costs: held-out measurements per domain (`evaluate_every` of the training step), on which the weights are renewed.
    """

    graph: dict[str, dict[str, float]] | None = None  # skill -> the skills that it helps, and how much; each helps itself by 1
    eta: float = 0.5  # how sharply weights follow losses
    window: int = 3  # measurements whose losses are summed
    relative: bool = True  # divide each loss by the first that was measured of its skill
    targets: tuple[str, ...] = ()  # the skills whose losses count; none named: all
    inner: Batching = "packed"  # how the documents of a domain are laid out

    def __post_init__(self) -> None:
        if self.eta < 0 or self.window < 1:
            raise ValueError(f"eta must not be negative and window at least 1, got {self.eta} and {self.window}")

    @property
    def uneven(self) -> bool:
        """Whether the rows of a step have a length of their own."""
        return getattr(self.inner, "uneven", False)

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[Pieces], Any]:
        """The rows of the next `clock.batch` inputs; the state holds the losses seen and what is owed to each domain.

        BadInput where the documents are of one kind, for unknown names, and where the clock shows the loss of no domain though it
        shows that of all.
        """
        names = mixing.kinds(pool, "skill_it")
        named = {*(self.graph or {}), *(helped for row in (self.graph or {}).values() for helped in row), *self.targets}
        mixing.known(dict.fromkeys(named), names, "batching: skill_it: graph and targets")
        seen = self.seen(names, clock)
        losses = list((state or {}).get("losses", []))
        first = (state or {}).get("first") or seen
        if seen is not None and (not losses or losses[-1] != seen):
            losses = [*losses, seen][-self.window :]
        rows, inner = mixing.mixed(pool, self.inner, self.weights(names, losses, first), (state or {}).get("rows"), clock, rng)
        return rows, {"losses": losses, "first": first, "rows": inner}

    def seen(self, names: list[str], clock: Clock) -> dict[str, float] | None:
        """The last losses by skill; None before the first measurement."""
        counted = self.targets or names
        missing = [name for name in counted if FIGURE + name not in clock.seen]
        if missing and "heldout_nats" in clock.seen:
            mend = "hold more out, or name targets without it"
            raise BadInput(f"batching: skill_it: nothing of the domain {missing[0]!r} is held out; {mend}")
        return None if missing else {name: float(clock.seen[FIGURE + name]) for name in counted}

    def weights(self, names: list[str], losses: list[Mapping[str, float]], first: Mapping[str, float] | None) -> dict[str, float]:
        """Share of each skill: exp(eta * sum of A[skill, j] * loss j), the losses of the window summed; before any, each counts 1."""
        counted = self.targets or names
        scale = {name: first[name] if self.relative and first else 1.0 for name in counted}
        total = {name: sum(one[name] / (scale[name] or 1.0) for one in losses) if losses else 1.0 for name in counted}
        pull = {}
        for name in names:
            helped = {name: 1.0, **(self.graph or {}).get(name, {})}
            pull[name] = self.eta * sum(weight * total[other] for other, weight in helped.items() if other in total)
        top = max(pull.values())
        raw = {name: math.exp(value - top) for name, value in pull.items()}
        return {name: value / sum(raw.values()) for name, value in raw.items()}

"""Search `pbt`: a population that trains in phases, between which the worst go on from the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.core.rng import python_rng
from bloomery.num import spaces
from bloomery.seams import Rng

SPACE = {"rate": (5e-4, 1e-2)}


@dataclass(frozen=True)
class Pbt:
    """A population trains in phases; after each, the worst take over weights and knobs of the best, and their knobs are perturbed.

    P248 Jaderberg et al. 2017, arXiv 1711.09846
    Differs: members wait for each other at the end of a phase (the paper's do not), so that history and key give the same search
    again; a member whose training failed is replaced whatever its rank; only truncation selection is offered.
    Costs: nothing beside the trials; a phase's models must be kept with their trainer state until the next has begun.
    """

    space: dict | None = None  # knob -> {low, high} or list of choices; None = the learning rate
    population: int = 8  # members, trained side by side
    phases: int = 4  # stretches of training; members are compared after each
    share: float = 0.2  # share of the population that is replaced, and the share that may replace it
    factors: tuple[float, ...] = (0.8, 1.2)  # what a taken-over knob is multiplied by, one of them at random
    resample: float = 0.0  # probability that a taken-over knob is drawn anew instead
    target: str = "heldout_nats"  # figure that ranks members, less is better; "-name" for more is better

    def __post_init__(self) -> None:
        if self.population < 2 or self.phases < 1:
            raise ValueError(f"population must be at least 2 and phases at least 1, got {self.population} and {self.phases}")
        if not 0 < self.share <= 0.5 or not 0 <= self.resample <= 1:
            raise ValueError(f"share must lie above 0 and at most at 0.5, resample between 0 and 1, got {self.share} and {self.resample}")
        if not self.factors or min(self.factors) <= 0:
            raise ValueError(f"factors must be positive, got {self.factors}")
        spaces.read(self.space or SPACE)

    def propose(self, history: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]], rng: Rng) -> list[Mapping[str, Any]]:
        """What is left of the phase at hand, member by member; entry `phase * population + member` of the history is that member's.

        BadInput where every member of a phase failed.
        """
        phase, done = divmod(len(history), self.population)
        if phase >= self.phases:
            return []
        space = spaces.read(self.space or SPACE)
        if phase == 0:
            trials: list[Mapping[str, Any]] = [{**spaces.sample(space, i, rng), "phase": 0} for i in range(self.population)]
        else:
            trials = self._next(history[: phase * self.population], phase, space, rng)
        return trials[done:]

    def _next(self, history: Sequence, phase: int, space: spaces.Space, rng: Rng) -> list[Mapping[str, Any]]:
        """Every member's next trial: its own model and knobs, or those of one of the best, perturbed."""
        first = (phase - 1) * self.population
        last = history[first:]
        scores = [spaces.figure(figures, self.target) for _, figures in last]
        order = sorted(range(self.population), key=lambda i: (scores[i], i))
        sound = [i for i in order if math.isfinite(scores[i])]
        if not sound:
            raise BadInput(f"every member of phase {phase - 1} failed: look for lower values of {', '.join(space)}")
        cut = max(1, round(self.share * self.population))
        best, worst = sound[:cut], set(order[-cut:]) - set(sound[:cut]) | set(order) - set(sound)
        trials = []
        for member in range(self.population):
            child = rng.child("phase", phase, member)
            source = python_rng(child.child("source")).choice(best) if member in worst else member
            values = {name: last[source][0][name] for name in space}
            if member in worst:
                values = spaces.perturb(space, values, child, self.factors, self.resample)
            trials.append({**values, "phase": phase, "parent": first + source})
        return trials

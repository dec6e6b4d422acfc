"""Rollout `single`: each item is answered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.seams import Engine, Episode, Item, Rng, Tools


@dataclass(frozen=True)
class Single:
    """One answer of the engine to each item, as the filters say: greedy without them.

    Source: standard practice.
    Costs: one completion, or one scoring, per item.
    """

    def rollout(self, engine: Engine, items: Sequence[Item], tools: Tools, rng: Rng) -> list[Episode]:
        """The engine's first episode of every item, in order."""
        return [episodes[0] for episodes in engine.sample(items, 1, rng)]

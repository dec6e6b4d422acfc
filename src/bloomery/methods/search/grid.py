"""Search `grid`: every combination of a few choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bloomery.seams import Rng

SPACE = {"bits": [8, 4, 3]}


@dataclass(frozen=True)
class Grid:
    """Every combination of the choices of a space, the last knob changing first; none depends on the outcome of another.

    standard practice
    Differs: nothing; for ranges, or more combinations than there is time for, take `random`.
    Costs: nothing beside the trials, which can all run at once.
    """

    space: dict | None = None  # knob -> list of choices; None = bits of 8, 4 and 3

    def __post_init__(self) -> None:
        for name, choices in (self.space or SPACE).items():
            if not isinstance(choices, list | tuple) or not choices:
                raise ValueError(f"{name}: a list of choices is asked for, got {choices!r}; the search `random` takes ranges")

    def propose(self, history: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]], rng: Rng) -> list[Mapping[str, Any]]:
        """The combinations that the history does not have yet, whose first are those of this search."""
        space = self.space or SPACE
        return [dict(zip(space, chosen, strict=True)) for chosen in product(*space.values())][len(history) :]

"""What is left of the documents and why the rest is not: every drop has a reason, and the sums add up in documents and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Funnel:
    """Rows of documents of known `sizes` (bytes), dropped step by step; a row is dropped once."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """All rows are in."""
        self.sizes = np.asarray(sizes, np.int64)
        self.reasons = np.full(len(self.sizes), "", object)
        self.notes = np.full(len(self.sizes), "", object)
        self.steps: list[dict[str, Any]] = []

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the rows that are left, ascending."""
        return np.flatnonzero(self.reasons == "")

    def outside(self, reason: str, documents: int, size: int, note: str = "") -> None:
        """A step that concerns documents which never became rows, or the change of size by edits."""
        self.steps.append({"reason": reason, "documents": int(documents), "bytes": int(size), "note": note})

    def drop(self, reason: str, rows: Sequence[int] | Mapping[int, str], note: str = "") -> None:
        """Drop `rows`, given alone or each with its own note."""
        notes = rows if isinstance(rows, Mapping) else dict.fromkeys(map(int, rows), "")
        chosen = np.fromiter(notes, np.int64, len(notes))
        self.reasons[chosen] = reason
        for row, text in notes.items():
            self.notes[row] = text
        self.outside(reason, len(chosen), int(self.sizes[chosen].sum()), note)

    def worst(self) -> dict[str, Any] | None:
        """The step that dropped most documents."""
        return max(self.steps, key=lambda step: step["documents"], default=None)

    def story(self, seen: Sequence[int], out: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """funnel.json: documents and bytes in, every step, documents and bytes out of each part (`out`: rows of each)."""
        parts = {name: {"documents": len(rows), "bytes": int(self.sizes[list(rows)].sum())} for name, rows in out.items()}
        return {"in": {"documents": int(seen[0]), "bytes": int(seen[1])}, "steps": self.steps, "out": parts}


def missing(story: Mapping[str, Any], unit: str) -> int:
    """How many documents or bytes (`unit`) a funnel fails to account for; 0 when it adds up."""
    return story["in"][unit] - sum(step[unit] for step in story["steps"]) - sum(part[unit] for part in story["out"].values())


def unique(names: Sequence[str]) -> list[str]:
    """The names, where one that came before gets `~2`, `~3`, ... at its end."""
    seen: dict[str, int] = {}
    taken = set(names)
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        fresh = name
        while seen[name] > 1 and (fresh := f"{name}~{seen[name]}") in taken:
            seen[name] += 1
        taken.add(fresh)
        result.append(fresh)
    return result

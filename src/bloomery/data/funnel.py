"""What is left of the documents and why the rest is not: every drop has a reason, and the sums add up in documents and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Funnel:
    """Rows of documents of known `sizes` (bytes), dropped step by step; a row is dropped once. Ten bytes a row, and the notes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """All rows are in."""
        self.sizes = np.asarray(sizes, np.int64)
        self.codes = np.zeros(len(self.sizes), np.uint16)  # number of the reason, 0 for a row that is left
        self.named = [""]
        self.notes: dict[int, str] = {}
        self.originals: dict[int, tuple[str, np.ndarray, np.ndarray]] = {}  # reason -> how, rows dropped as copies, and what they copy
        self.steps: list[dict[str, Any]] = []

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the rows that are left, ascending."""
        return np.flatnonzero(self.codes == 0)

    @property
    def gone(self) -> np.ndarray:
        """Numbers of the rows that were dropped, ascending."""
        return np.flatnonzero(self.codes)

    def outside(self, reason: str, documents: int, size: int, note: str = "") -> None:
        """A step that concerns documents which never became rows, or the change of size by edits."""
        self.steps.append({"reason": reason, "documents": int(documents), "bytes": int(size), "note": note})

    def drop(self, reason: str, rows: Sequence[int] | Mapping[int, str], note: str = "") -> None:
        """Drop `rows`, given alone or each with its own note."""
        if isinstance(rows, Mapping):
            self.notes.update((int(row), text) for row, text in rows.items() if text)
            rows = np.fromiter(rows, np.int64, len(rows))
        chosen = np.asarray(rows, np.int64)
        self.codes[chosen] = self._code(reason)
        self.outside(reason, len(chosen), int(self.sizes[chosen].sum()), note)

    def drop_copies(self, reason: str, rows: np.ndarray, originals: np.ndarray, note: str = "", how: str = "of") -> None:
        """Drop `rows`, each of which is a copy of another row, `originals`; a document's own note is `how` and that row's id."""
        order = np.argsort(rows)
        self.originals[self._code(reason)] = (how, np.asarray(rows, np.int64)[order], np.asarray(originals, np.int64)[order])
        self.drop(reason, rows, note)

    def shrink(self, reason: str, rows: np.ndarray, sizes: np.ndarray, note: str = "") -> None:
        """`rows` stay, with fewer bytes: `sizes`."""
        gone = int(self.sizes[rows].sum() - sizes.sum())
        self.sizes = self.sizes.copy()  # what was handed in is not ours
        self.sizes[rows] = sizes
        self.outside(reason, 0, gone, note)

    def _code(self, reason: str) -> int:
        if reason not in self.named:
            self.named.append(reason)
        return self.named.index(reason)

    def why(self, row: int, ids: Any) -> tuple[str, str]:
        """Reason and note of a dropped row; `ids` gives the name of a row."""
        code = int(self.codes[row])
        note = self.notes.get(row, "")
        if not note and code in self.originals:
            how, rows, originals = self.originals[code]
            note = f"{how} {ids[int(originals[np.searchsorted(rows, row)])]}"
        return self.named[code], note

    def worst(self) -> dict[str, Any] | None:
        """The step that dropped most documents."""
        return max(self.steps, key=lambda step: step["documents"], default=None)

    def story(self, seen: Sequence[int], out: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """funnel.json: documents and bytes in, every step, documents and bytes out of each part (`out`: rows of each)."""
        parts = {name: {"documents": len(rows), "bytes": int(self.sizes[np.asarray(rows, np.int64)].sum())} for name, rows in out.items()}
        return {"in": {"documents": int(seen[0]), "bytes": int(seen[1])}, "steps": self.steps, "out": parts}


def missing(story: Mapping[str, Any], unit: str) -> int:
    """How many documents or bytes (`unit`) a funnel fails to account for; 0 when it adds up."""
    return story["in"][unit] - sum(step[unit] for step in story["steps"]) - sum(part[unit] for part in story["out"].values())


def unique(names: Any) -> Any:
    """An Arrow array of names, where one that came before gets `~2`, `~3`, ... at its end."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    order = pc.sort_indices(names)
    ordered = names.take(order)
    same = pc.equal(ordered.slice(1), ordered.slice(0, max(0, len(ordered) - 1))).to_numpy(zero_copy_only=False).astype(bool)
    if not same.any():
        return names
    order = order.to_numpy()
    again = np.zeros(len(names), bool)
    again[order[1:][same]] = again[order[:-1][same]] = True
    rows = np.flatnonzero(again)
    taken = {*names.filter(pc.match_substring(names, "~")).to_pylist()}
    seen: dict[str, int] = {}
    renamed: dict[int, str] = {}
    for row, name in zip(rows.tolist(), names.take(pa.array(rows)).to_pylist(), strict=True):
        seen[name] = seen.get(name, 0) + 1
        fresh = name
        while seen[name] > 1 and (fresh := f"{name}~{seen[name]}") in taken:
            seen[name] += 1
        taken.add(fresh)
        if fresh != name:
            renamed[row] = fresh
    changed = np.zeros(len(names), bool)
    changed[list(renamed)] = True
    return pc.replace_with_mask(names, pa.array(changed), pa.array([renamed[row] for row in sorted(renamed)], pa.string()))

"""Losses that leap: a robust limit over the last ones, and what is written of a batch that passes it.

limit = median + sigmas x max(1.4826 x MAD, 0.01 x |median|) over the last `window` losses that passed, where MAD is the median of
their distances from the median: 1.4826 x MAD is the standard deviation where losses are normal, and half of the window may be wild
without moving it. The second part keeps a loss that hardly moves from making a leap of every small step. Nothing is a leap before a
quarter of the window is there. As many leaps in a row are no leap any more but another level: the window then begins anew where updates
are made all the same.
"""

from __future__ import annotations

import json
import os
import statistics
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NORMAL, LEAST = 1.4826, 0.01
ACTS = ("off", "stop", "dump", "skip", "back")
RETURNS = 3  # times that a run goes back to one step before it gives up


@dataclass
class Guard:
    """The last losses and the limit that they set. `act` is one of ACTS: what is done once a batch has been written down."""

    act: str = "off"
    window: int = 64
    sigmas: float = 8.0
    path: Path | None = None  # one JSON line for each batch that leapt
    losses: deque = field(default_factory=deque)
    count: int = 0  # batches that leapt
    streak: int = 0  # of them in a row, up to the last loss
    returned: tuple[int, int] = (-1, 0)  # the step gone back to last, and how often

    @property
    def least(self) -> int:
        """Losses that set a limit, and leaps in a row that are another level."""
        return max(4, self.window // 4)

    def limit(self) -> float | None:
        """What the next loss may be at most; None while too few are known."""
        if self.act == "off" or len(self.losses) < self.least:
            return None
        middle = statistics.median(self.losses)
        spread = NORMAL * statistics.median(abs(loss - middle) for loss in self.losses)
        return middle + self.sigmas * max(spread, LEAST * abs(middle))

    def leaps(self, loss: float) -> float | None:
        """The limit that a loss passes; a loss that stays below it joins the window, and None is returned."""
        limit = self.limit()
        if limit is not None and loss > limit:
            self.count, self.streak = self.count + 1, self.streak + 1
            if self.act == "dump" and self.streak == self.least:
                self.losses.clear()
            return limit
        self.streak = 0
        if self.act != "off":
            self.losses.append(loss)
            if len(self.losses) > self.window:
                self.losses.popleft()
        return None

    def dump(self, row: dict[str, Any]) -> None:
        """Write down a batch; on the disk when this returns."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"number": self.count, **row}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def go_back(self, step: int) -> bool:
        """Note a return to `step`; False where it has been the goal too often."""
        before, times = self.returned
        self.returned = (step, times + 1 if before == step else 1)
        return self.returned[1] <= RETURNS

    def state(self) -> dict[str, Any]:
        """JSON of what a resumed run must know."""
        return {"losses": list(self.losses), "count": self.count, "streak": self.streak, "returned": list(self.returned)}

    def load(self, state: dict[str, Any] | None) -> None:
        """Take back what `state` gave, or begin; batches written down later are dropped, and will be again."""
        state = state or {"losses": [], "count": 0, "streak": 0, "returned": (-1, 0)}
        self.losses, self.returned = deque(state["losses"]), tuple(state["returned"])
        self.count, self.streak = state["count"], state["streak"]
        if self.path is not None and self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            aside = self.path.with_name(f"{self.path.name}.tmp")
            aside.write_text("".join(lines[: self.count]), encoding="utf-8")
            os.replace(aside, self.path)

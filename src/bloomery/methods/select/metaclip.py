"""Select `metaclip`: at most so many documents of each concept, so that rare ones are kept whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng
from bloomery.data.budget import costs, filled, texts
from bloomery.seams import Rng


@dataclass(frozen=True)
class Metaclip:
    """Keeps a document for each of its concepts with probability min(1, cap / documents of the concept); one that has none goes.

    P346 Xu et al. 2023, arXiv 2309.16671
    Differs: whole documents instead of captions; a cap of 0 is set so that what is expected to be kept fills the budget; what is drawn
    beyond the budget is left out at random.
    Costs: one search for each concept in each text.
    """

    entries: tuple[str, ...] = ()  # concepts, matched as pieces of the text
    cap: int = 0  # documents of a concept above which it is thinned; 0: so that the budget is filled
    reads = ("text",)  # columns beside the numbers of a document

    def __post_init__(self) -> None:
        if self.cap < 0 or not all(self.entries):
            raise ValueError("cap must not be negative, and no entry may be empty")

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """1 or 0 for each document (float64); `columns` hold text and cost. BadInput without concepts, or where no text has one."""
        if not self.entries:
            raise BadInput("select: metaclip: name the concepts in `entries`")
        has = matches(texts(columns, "metaclip"), self.entries)
        counts, sizes = has.sum(0), costs(columns)
        if not counts.any():
            raise BadInput("select: metaclip: no document holds any of the `entries`")
        cap = self.cap or fitting(has, sizes, budget)
        draw = numpy_rng(rng)
        chance = np.minimum(1.0, cap / np.maximum(counts, 1))
        kept = (has & (draw.random(has.shape) < chance)).any(1)
        order = draw.permutation(len(sizes))
        return filled(order[kept[order]], sizes, budget)


def matches(texts: list[str], entries: tuple[str, ...]) -> np.ndarray:
    """Which texts hold which entries: (texts, entries) bool."""
    return np.array([[entry in text for entry in entries] for text in texts], bool).reshape(len(texts), len(entries))


def expected(has: np.ndarray, cap: float) -> np.ndarray:
    """The probability that each document is kept: that not all of its concepts leave it out."""
    left_out = 1 - np.minimum(1.0, cap / np.maximum(has.sum(0), 1))
    return 1 - np.where(has, left_out, 1.0).prod(1)


def fitting(has: np.ndarray, sizes: np.ndarray, budget: float) -> float:
    """The cap at which the expected bytes are the budget; the largest count where even all of them are fewer."""
    low, high = 0.0, float(has.sum(0).max())
    if expected(has, high) @ sizes <= budget:
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(has, middle) @ sizes <= budget else (low, middle)
    return low

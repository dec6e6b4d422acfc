"""Select `metaclip`: at most so many documents of each concept, so that rare ones are kept whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng
from bloomery.data.budget import blocks, costs, filled, texts
from bloomery.seams import Rng

PART = 1 << 20  # texts times entries that are looked at together


@dataclass(frozen=True)
class Metaclip:
    """Keeps a document for each of its concepts with probability min(1, cap / documents of the concept); one that has none goes.

    P346 Xu et al. 2023, arXiv 2309.16671
    Differs: whole documents instead of captions; a cap of 0 is set so that what is expected to be kept fills the budget; what is drawn
    beyond the budget is left out at random.
    Costs: one search for each concept in each text, and a bit of memory.
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
        counts, sizes = has.counts(), costs(columns)
        if not counts.any():
            raise BadInput("select: metaclip: no document holds any of the `entries`")
        cap = self.cap or fitting(has, counts, sizes, budget)
        draw, chance = numpy_rng(rng), np.minimum(1.0, cap / np.maximum(counts, 1))
        kept = np.concatenate([(part & (draw.random(part.shape) < chance)).any(1) for part in has.parts()])
        order = draw.permutation(len(sizes))
        return filled(order[kept[order]], sizes, budget)


@dataclass(frozen=True)
class Matches:
    """Which of N texts hold which of E entries, a bit for each."""

    bits: np.ndarray  # uint8 (N, E / 8)
    entries: int

    def parts(self) -> Iterator[np.ndarray]:
        """bool (some texts, E), in order."""
        some = max(1, PART // self.entries)
        for begin in range(0, max(1, len(self.bits)), some):
            yield np.unpackbits(self.bits[begin : begin + some], axis=1, count=self.entries).astype(bool)

    def counts(self) -> np.ndarray:
        """Texts that hold each entry: int64 (E,)."""
        return np.sum([part.sum(0) for part in self.parts()], 0)


def matches(texts: Iterable[str], entries: tuple[str, ...]) -> Matches:
    """Which texts hold which entries."""
    rows = [np.packbits(np.array([[entry in text for entry in entries] for text in some], bool), axis=1) for some in blocks(texts)]
    return Matches(np.concatenate([np.zeros((0, (len(entries) + 7) // 8), np.uint8), *rows]), len(entries))


def expected(has: Matches, counts: np.ndarray, cap: float) -> np.ndarray:
    """The probability that each document is kept: that not all of its concepts leave it out."""
    left_out = 1 - np.minimum(1.0, cap / np.maximum(counts, 1))
    return np.concatenate([1 - np.where(part, left_out, 1.0).prod(1) for part in has.parts()])


def fitting(has: Matches, counts: np.ndarray, sizes: np.ndarray, budget: float) -> float:
    """The cap at which the expected bytes are the budget; the largest count where even all of them are fewer."""
    low, high = 0.0, float(counts.max())
    if expected(has, counts, high) @ sizes <= budget:
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(has, counts, middle) @ sizes <= budget else (low, middle)
    return low

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.seams import Clock, Pool, Rng

Pieces = list[tuple[int, int, int]]


@dataclass(frozen=True)
class DatasetDecomposition:
    """Every document cut into pieces of power-of-two lengths; a step draws one length, short ones first, and as many rows as fill it.

    P351 Pouransari et al. 2024, arXiv 2405.13226
    Differs: what is left of a document below the shortest length is a piece too, padded to it, where the paper drops it; the rows that
        do not fill a step of their length wait for the next cycle. Pieces share the token at a cut, as target and as input, so that no
        prediction is lost, where the authors' code loses one at every cut. Attention never crosses documents in the baseline either.
    Costs: rows of several lengths, so a compiled model is compiled once per length; 24 bytes of memory per piece.
    """

    shortest: int = 16  # inputs of the shortest pieces, a power of two; shorter ends are padded to it
    longest: int = 0  # inputs of the longest; 0 = the largest power of two that fits a row
    cycles: int = 8  # times per epoch that the lengths go from short to long
    grow: float = 2.0  # odds of a length over those of twice the length within a cycle; 1 = no curriculum
    uneven: ClassVar[bool] = True
    space: ClassVar[dict] = {"rate": (5e-4, 1e-2), "grow": [1.0, 2.0, 4.0], "cycles": [1, 4, 8]}

    def __post_init__(self) -> None:
        if self.shortest < 1 or self.shortest & (self.shortest - 1) or self.longest & (self.longest - 1) or self.longest < 0:
            raise ValueError(f"shortest and longest must be powers of two, longest may be 0, got {self.shortest} and {self.longest}")
        if self.cycles < 1 or self.grow <= 0:
            raise ValueError(f"cycles must be at least 1 and grow above 0, got {self.cycles} and {self.grow}")

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[Pieces], Any]:
        """Rows of one length that hold `clock.batch` inputs together, padding of short ends counted.

        `state` is None at first, then {"cycle", "step", "taken": pieces taken of each length}. Raises ValueError when there is nothing
        to train on or a row is shorter than `shortest`.
        """
        top = self.longest or 1 << (pool.row.bit_length() - 1)
        if not self.shortest <= top <= pool.row:
            raise ValueError(f"lengths go from {self.shortest} to {top} and a row holds {pool.row} inputs")
        buckets = pieces_of(np.ascontiguousarray(pool.lengths, np.int64).tobytes(), self.shortest, top)
        sizes = [self.shortest << k for k in range(len(buckets))]
        held = [len(bucket) for bucket in buckets]
        if not any(held):
            raise ValueError("no document has a token to train on")
        rows = [max(1, clock.batch // size) for size in sizes]
        cycle, step, taken = (state["cycle"], state["step"], list(state["taken"])) if state else (0, 0, [0] * len(sizes))
        while not (ready := [k for k in range(len(sizes)) if (taken[k] + rows[k]) * self.cycles <= (cycle + 1) * held[k]]):
            cycle += 1
        odds = np.array([held[k] * sizes[k] * self.grow ** (len(sizes) - 1 - k) for k in ready])
        k = ready[int(np.searchsorted(np.cumsum(odds / odds.sum()), numpy_rng(rng.child("length", step)).random() * (1 - 1e-12)))]
        chosen = [self.piece(buckets, k, taken[k] + i, rng) for i in range(rows[k])]
        taken[k] += rows[k]
        return [[piece] for piece in chosen], {"cycle": cycle, "step": step + 1, "taken": taken}

    def piece(self, buckets: list[np.ndarray], k: int, number: int, rng: Rng) -> tuple[int, int, int]:
        """Piece `number` of the endless stream of epochs of one length, each epoch in an order of its own."""
        epoch, place = divmod(number, len(buckets[k]))
        document, start, stop = buckets[k][_order(len(buckets[k]), rng.child("epoch", k, epoch))[place]]
        return int(document), int(start), int(stop)


@lru_cache(maxsize=64)
def _order(count: int, rng: Rng) -> np.ndarray:
    """A permutation that depends on its arguments alone."""
    return numpy_rng(rng).permutation(count)


@lru_cache(maxsize=2)
def pieces_of(data: bytes, shortest: int, longest: int) -> list[np.ndarray]:
    """The pieces (document, start, stop) of each length, the shortest first: of a document the longest pieces come first, and what is
    left below `shortest` is a piece of the shortest kind. Every input is in exactly one piece."""
    lengths = np.frombuffer(data, np.int64)
    count = (longest // shortest).bit_length()
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(count)]
    for document, length in enumerate(lengths.tolist()):
        start = 0
        while start < length:
            k = min(count - 1, max(0, ((length - start) // shortest).bit_length() - 1))
            stop = min(length, start + (shortest << k))
            found[k].append((document, start, stop))
            start = stop
    return [np.array(one, np.int64).reshape(-1, 3) for one in found]

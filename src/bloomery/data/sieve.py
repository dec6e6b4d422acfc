"""Which texts may share much with some others: a bitmap of the others' runs of words, small enough for millions of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bloomery.data import minhash
from bloomery.data.compiled import compiled


@compiled
def _mark(numbers, bits, mask):  # type: ignore[no-untyped-def]
    for i in range(numbers.shape[0]):
        place = (numbers[i] >> np.uint64(7)) & mask
        bits[place >> np.uint64(3)] |= np.uint8(1) << np.uint8(place & np.uint64(7))


@compiled
def _enough(sets, ends, bits, mask, threshold, found):  # type: ignore[no-untyped-def]
    begin = 0
    for d in range(ends.shape[0]):
        known = 0
        for i in range(begin, ends[d]):
            place = (sets[i] >> np.uint64(7)) & mask
            known += (bits[place >> np.uint64(3)] >> np.uint8(place & np.uint64(7))) & np.uint8(1)
        found[d] = ends[d] > begin and known / (ends[d] - begin) >= threshold
        begin = ends[d]


class Sieve:
    """Holds a bit for the hash of each shingle of the texts that were put in; `room` is the most bytes that the bits may take."""

    def __init__(self, held: int, room: int) -> None:
        """`held` is the bytes of all texts to come: a bit in eight or so will be set, or more where there is no room for that."""
        size = 1 << max(10, min(int(held // 6), max(1, room)).bit_length() - 1)
        self.bits, self.mask = np.zeros(size, np.uint8), np.uint64(8 * size - 1)

    def put(self, texts: Sequence[str] | Any) -> None:
        _mark(minhash.flat_shingle_sets(texts)[0], self.bits, self.mask)

    def may_reach(self, texts: Sequence[str] | Any, threshold: float) -> np.ndarray:
        """bool (texts,): False only where fewer than this share of a text's shingles are in any text that was put in, so that no Jaccard
        similarity to one of them can reach the threshold."""
        flat, counts = minhash.flat_shingle_sets(texts)
        found = np.zeros(len(counts), np.bool_)
        _enough(flat, np.cumsum(counts), self.bits, self.mask, threshold, found)
        return found

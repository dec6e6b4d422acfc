"""How far a heap grows that serves given requests in their order: blocks that are free and do not fit are counted too.

The rule of the C library's large blocks: the smallest free block that is large enough, the remainder stays free, neighbours that are
free become one. Tensors begin at multiples of 64 bytes, for which the library asks itself for so much more and gives back what is over
on both sides: a stretch that a tensor has left is too small for another of its size. Into gaps so small go the nodes of autograd's
graph, which keep neighbours apart until the step is over: into about one of TAKEN, as logs of real steps showed. Only addresses are
moved here, no memory.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

ALIGNED, HEADER, SMALLEST, GRAIN = 64, 16, 32, 16  # bytes: torch's alignment; the library's own, of each block, block and step of sizes
TAKEN = 2  # of gaps, one has something small in it
Event = tuple[int, int]  # (number of a block, its bytes; 0 gives it back)


class Heap:
    """`highest` is the most that it has reached."""

    def __init__(self) -> None:
        self.top = self.highest = 0
        self.held: dict[int, tuple[int, int]] = {}  # block -> begin, end
        self.begins: dict[int, int] = {}  # of free stretches -> end
        self.ends: dict[int, int] = {}
        self.sizes: list[tuple[int, int]] = []  # (size, begin) of free stretches, sorted
        self.gaps = 0
        self.taken: list[tuple[int, int]] = []  # gaps before tensors in which something small lies

    def serve(self, events: Iterable[Event]) -> None:
        """Requests and returns; of a block that is not known nothing is returned."""
        for number, size in events:
            if size:
                self.ask(number, size)
            elif number in self.held:
                self.give(number)

    def ask(self, number: int, size: int) -> None:
        wanted = size + HEADER + ALIGNED + SMALLEST
        place = bisect_left(self.sizes, (wanted, -1))
        if place < len(self.sizes):
            lowest = self.sizes[place][1]
            end = self.drop(lowest)
        else:
            lowest, end = self.top, self.top + wanted
            self.highest = max(self.highest, end)
        begin = lowest + (-(lowest + HEADER)) % ALIGNED
        begin += ALIGNED * (0 < begin - lowest < SMALLEST)
        stop = begin + -(-(size + HEADER) // GRAIN) * GRAIN
        if lowest == self.top:
            self.top = stop
        elif end > stop:
            self.add(stop, end)
        if begin > lowest:
            self.gaps += 1
            if self.gaps % TAKEN:
                self.add(lowest, begin)
            else:
                self.taken.append((lowest, begin))
        self.held[number] = (begin, stop)

    def settle(self) -> None:
        """The graph of a step is gone, and with it the small objects in gaps."""
        gone, self.taken = self.taken, []
        for begin, end in gone:
            self.free(begin, end)

    def give(self, number: int) -> None:
        self.free(*self.held.pop(number))

    def free(self, begin: int, end: int) -> None:
        """A stretch, with its neighbours that are free."""
        if end in self.begins:
            end = self.drop(end)
        if begin in self.ends:
            before = self.ends[begin]
            self.drop(before)
            begin = before
        if end == self.top:
            self.top = begin
        else:
            self.add(begin, end)

    def add(self, begin: int, end: int) -> None:
        self.begins[begin], self.ends[end] = end, begin
        insort(self.sizes, (end - begin, begin))

    def drop(self, begin: int) -> int:
        """Take a free stretch away; returns its end."""
        end = self.begins.pop(begin)
        del self.ends[end]
        self.sizes.pop(bisect_left(self.sizes, (end - begin, begin)))
        return end

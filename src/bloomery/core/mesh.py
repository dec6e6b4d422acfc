"""How processes are arranged: sizes of axes whose product is their number. Free of torch, so that a plan can refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from bloomery.core.errors import BadInput, near

# from the slowest links to the fastest: ranks that are next to each other differ in the last
AXES = ("pipeline", "data", "context", "shard", "expert", "tensor")
BATCH = ("data", "context", "shard", "expert")  # ranks along these see different tokens
ROWS = ("data", "shard", "expert")  # ranks along these see different rows


def arranged(wish: Mapping[str, int] | str, processes: int, unfit: Callable[[Mapping[str, int]], str] = lambda sizes: "") -> dict[str, int]:
    """The size of every axis, 1 where it is not named; "auto" makes all processes copies with other rows.

    `unfit` says why sizes cannot be, "" where they can. BadInput for a mesh that cannot be, with the nearest that can.
    """
    named = {"data": processes} if wish == "auto" else dict(wish)
    for axis, size in named.items():
        if axis not in AXES:
            raise BadInput(f"mesh: there is no axis '{axis}'; {near(str(axis), list(AXES))}")
        if size < 1:
            raise BadInput(f"mesh: {axis} must be at least 1, got {size}")
    sizes = {axis: named.get(axis, 1) for axis in AXES}
    total = math.prod(sizes.values())
    started = f"{processes} {'was' if processes == 1 else 'were'} started"
    why = f"{written(sizes)} takes {counted(total)} and {started}" if total != processes else unfit(sizes)
    if not why:
        return sizes
    mend = nearest(sizes, processes, unfit)
    other = f" or start {counted(total)} (torchrun --nproc-per-node, or --processes)" if total != processes else ""
    raise BadInput(f"mesh: {why}; " + (f"say `mesh: {written(mend)}`{other}" if mend else "start another number of processes"))


def nearest(sizes: Mapping[str, int], processes: int, unfit: Callable[[Mapping[str, int]], str]) -> dict[str, int] | None:
    """The sizes of that product that can be and are the fewest doublings and halvings away; of equally near ones, that with more data."""
    able = (dict(zip(AXES, each)) for each in factored(processes, len(AXES)))
    able = [one for one in able if not unfit(one)]
    return min(able, key=lambda one: (distance(one, sizes), -one["data"], -one["shard"]), default=None)


def distance(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Doublings and halvings that lead from one mesh to the other."""
    return round(sum(abs(math.log2(one[axis] / other[axis])) for axis in AXES), 9)


def factored(number: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a product of so many, in order."""
    if parts == 1:
        yield (number,)
        return
    for first in range(1, number + 1):
        if number % first == 0:
            yield from ((first, *rest) for rest in factored(number // first, parts - 1))


def written(sizes: Mapping[str, int]) -> str:
    """As a recipe has it."""
    return "{" + ", ".join(f"{axis}: {size}" for axis, size in sizes.items() if size > 1) + "}"


def counted(processes: int) -> str:
    """So many processes, in words."""
    return "1 process" if processes == 1 else f"{processes} processes"

"""Names beside the marks of a chart: near their mark, inside the frame, touching neither another name nor another mark.

Of many places around each mark the cheapest free one is taken, in several orders of the marks; the best whole wins (a greedy
form of Christensen, Marks & Shieber 1995, "An empirical study of algorithms for point-feature label placement").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GAPS = (9.0, 13.0, 20.0, 30.0, 44.0, 62.0, 84.0, 110.0, 140.0)
TURNS = (0, 8, 4, 12, 2, 14, 6, 10, 1, 15, 7, 9, 3, 13, 5, 11)  # sixteenths of a turn: right and left first, clockwise from the right
AIR = 3.0  # pixels between two names at least


@dataclass(frozen=True)
class Box:
    """A rectangle: its left upper corner, width and height."""

    x: float
    y: float
    wide: float
    tall: float

    def touches(self, other: Box, air: float = 0.0) -> bool:
        return (
            self.x < other.x + other.wide + air and other.x < self.x + self.wide + air
            and self.y < other.y + other.tall + air and other.y < self.y + self.tall + air
        )  # fmt: skip

    def within(self, frame: Box) -> bool:
        return (
            frame.x <= self.x and self.x + self.wide <= frame.x + frame.wide
            and frame.y <= self.y and self.y + self.tall <= frame.y + frame.tall
        )  # fmt: skip

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle nearest to (x, y)."""
        return min(max(x, self.x), self.x + self.wide), min(max(y, self.y), self.y + self.tall)


@dataclass(frozen=True)
class Spot:
    """Where a name stands: its box, the side its text leans to (start, middle, end), and whether a line should lead to it."""

    box: Box
    anchor: str
    led: bool


def place(
    marks: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], frame: Box,
    taken: Sequence[Box] = (), lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> list[Spot | None]:  # fmt: skip
    """A spot for the name of each mark, or None where there is no free place; `taken` and `lines` are what it should not cover.

    `sizes` are width and height of each name. Lines cost a little to cover, taken boxes and other marks are never covered.
    """
    dots = [Box(x - 6, y - 6, 12, 12) for x, y in marks]
    orders = [
        sorted(range(len(marks)), key=key)
        for key in (
            lambda i: (marks[i][0], marks[i][1]), lambda i: (-marks[i][0], marks[i][1]),
            lambda i: (marks[i][1], marks[i][0]), lambda i: (-marks[i][1], marks[i][0]), lambda i: (-sizes[i][0], i),
        )
    ]  # fmt: skip
    best: tuple[float, list[Spot | None]] = (math.inf, [])
    for order in orders:
        cost, found = _greedy(order, marks, sizes, frame, [*taken, *dots], lines)
        if cost < best[0]:
            best = (cost, found)
    return best[1]


def _greedy(order, marks, sizes, frame, taken, lines) -> tuple[float, list[Spot | None]]:  # type: ignore[no-untyped-def]
    found: list[Spot | None] = [None] * len(marks)
    busy, leaders, total = list(taken), list(lines), 0.0
    for i in order:
        choice = _cheapest(*marks[i], *sizes[i], frame, busy, leaders)
        total += 1e4 if choice is None else choice[0]
        if choice is not None:
            found[i] = choice[1]
            busy.append(choice[1].box)
            if choice[1].led:
                leaders.append((marks[i], choice[1].box.nearest(*marks[i])))
    return total, found


def _cheapest(x, y, wide, tall, frame, busy, lines) -> tuple[float, Spot] | None:  # type: ignore[no-untyped-def]
    """The cheapest free place around one mark: near, to the right, over few lines."""
    best: tuple[float, Spot] | None = None
    for gap in GAPS:
        for rank, turn in enumerate(TURNS):
            cost = gap + 0.7 * rank
            if best and best[0] <= cost:
                continue
            dx, dy = math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)
            box = Box(x + dx * gap - wide * (1 - dx) / 2, y + dy * gap - tall * (1 - dy) / 2, wide, tall)
            if not box.within(frame) or any(box.touches(other, AIR) for other in busy):
                continue
            leader = ((x, y), box.nearest(x, y))
            cost += 14 * sum(_covers(box, a, b) for a, b in lines)
            cost += 30 * sum(_cross(*leader, a, b) for a, b in lines) if gap > 14 else 0
            if best is None or cost < best[0]:
                anchor = "start" if dx > 0.3 else "end" if dx < -0.3 else "middle"
                best = (cost, Spot(box, anchor, gap > 14))
    return best


def _covers(box: Box, a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether a line passes under a box, by points along it."""
    steps = max(2, int(math.dist(a, b) / 6))
    return any(box.touches(Box(a[0] + (b[0] - a[0]) * i / steps - 1, a[1] + (b[1] - a[1]) * i / steps - 1, 2, 2)) for i in range(steps + 1))


def _cross(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float]) -> bool:
    """Whether two line pieces cross, common ends aside."""

    def side(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0

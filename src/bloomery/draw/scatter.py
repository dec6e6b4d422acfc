"""Points with their names beside them: size against quality. The line joins what nothing else beats in both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bloomery.draw import svg
from bloomery.draw.axes import foot, grid
from bloomery.draw.placing import Box, Spot, place
from bloomery.draw.scales import Scale, labels, spread

NAME = 13  # pixels of a name
LINE = 17.0  # from one line of a name to the next


@dataclass(frozen=True)
class Mark:
    """One point; `tone` is main (on the line), other or source; `words` are shown by a resting pointer."""

    name: str
    x: float
    y: float
    tone: str = "other"
    words: str = ""


def frontier(marks: Sequence[Mark], near: float = 0.0) -> list[Mark]:
    """The marks that no other beats both in x and in y (lower is better in both), by x; what is better by `near` or less is not."""
    kept: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (m.x, m.y)):
        if not kept or mark.y < kept[-1].y - near:
            kept.append(mark)
    return kept


def scatter(
    marks: Sequence[Mark], *, label: str, x: str, y: str, log_x: bool = False, level: tuple[str, float] | None = None,
    limit: tuple[str, float] | None = None, width: int = 700, height: int = 340, near: float = 0.0, room: float = 0.0,
) -> str:  # fmt: skip
    """An svg of named points; `level` is a dashed line to compare with, `limit` an upright one to keep to the left of.

    Differences in y up to `near` count as none, and the upright axis spans `room` at least, so that noise does not look like a result.
    """
    marks = [m for m in marks if math.isfinite(m.x) and math.isfinite(m.y) and (m.x > 0 or not log_x)]
    low, high = spread([*(m.y for m in marks), *([level[1]] if level else [])], air=0.12)
    low, high = min(low, (low + high - room) / 2), max(high, (low + high + room) / 2)
    top, bottom = 28.0, height - 34.0
    up = Scale(low, high, bottom, top)
    ticks = up.ticks(max(3, height // 60))
    names = labels(ticks)
    left, right = 10 + max((svg.measure(n) for n in names), default=20), width - 4.0
    across = Scale(*spread([*(m.x for m in marks), *([limit[1]] if limit else [])], log_x, air=0.1), left, right, log_x)
    spots = [(across(m.x), up(m.y)) for m in marks]
    line = [(across(m.x), up(m.y)) for m in frontier(marks, near)]
    parts = [svg.text(y, 0, 13, "unit"), *grid(up, ticks, names, left, right), *foot(across, x, bottom, right)]
    taken: list[Box] = []
    if level:
        parts += _level(level, up(level[1]), left, right, [s for m, s in zip(marks, spots, strict=True) if m.tone == "source"], taken)
    if limit:
        parts += _limit(limit[0], across(limit[1]), top, bottom, right, taken)
    if len(line) > 1:
        parts.append(svg.path(line, class_="trail"))
    groups = _together(spots)
    names_of = [[svg.fit(marks[i].name, width * 0.4, NAME) for i in group] for group in groups]
    lines = [
        *pairwise(line),
        *([((left, up(level[1])), (right, up(level[1])))] if level else []),
        *([((across(limit[1]), top), (across(limit[1]), bottom))] if limit else []),
    ]
    found = place(
        [spots[group[0]] for group in groups],
        [(max(svg.measure(n, NAME) for n in shown), LINE * len(shown)) for shown in names_of],
        Box(left + 2, 16, right - left - 2, bottom - 18), taken, lines,
    )  # fmt: skip
    for group, shown, spot in zip(groups, names_of, found, strict=True):
        parts += _name(spot, spots[group[0]], shown, [marks[i] for i in group])
    parts += [
        _dot(m, *s) for m, s in sorted(zip(marks, spots, strict=True), key=lambda one: ("source", "other", "main").index(one[0].tone))
    ]
    return svg.picture(width, height, label, *parts, kind="scatter")


def _level(
    level: tuple[str, float], y: float, left: float, right: float, sources: Sequence[tuple[float, float]], taken: list[Box]
) -> Iterator[str]:
    """The dashed line; its name, if it has one, stands above it at the left end, where no source lies on it."""
    name = svg.fit(level[0], (right - left) * 0.6)
    wide = svg.measure(name)
    at_left = not any(x < left + wide + 16 for x, _ in sources)
    x = left + 4 if at_left else right - 4 - wide
    yield svg.tag("line", x1=left, x2=right, y1=y, y2=y, class_="level")
    if not name:
        return
    yield svg.text(name, x if at_left else right - 4, y - 6, "soft", "start" if at_left else "end")
    taken.append(Box(x, y - 18, wide, 16))


def _limit(name: str, x: float, top: float, bottom: float, right: float, taken: list[Box]) -> Iterator[str]:
    """The upright dashed line; its name stands at its upper end, on the side that has room."""
    wide = svg.measure(name)
    left_of = x + wide + 8 > right
    yield svg.tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="level")
    yield svg.text(name, x - 4 if left_of else x + 4, top + 12, "soft", "end" if left_of else "start")
    taken.append(Box(x - 4 - wide if left_of else x + 4, top, wide, 16))


def _together(spots: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Marks that lie on one another, by the first of each heap."""
    groups: list[list[int]] = []
    for i, spot in enumerate(spots):
        near = next((g for g in groups if math.dist(spots[g[0]], spot) < 5), None)
        if near is None:
            groups.append([i])
        else:
            near.append(i)
    return groups


def _name(spot: Spot | None, mark: tuple[float, float], shown: Sequence[str], marks: Sequence[Mark]) -> Iterator[str]:
    """The lines of a name, one for each mark of a heap; nothing where no place is free (the table and the pointer tell)."""
    if spot is None:
        return
    box = spot.box
    x = {"start": box.x, "middle": box.x + box.wide / 2, "end": box.x + box.wide}[spot.anchor]
    if spot.led:
        yield svg.path([mark, box.nearest(*mark)], class_="leader")
    for i, (text, one) in enumerate(zip(shown, marks, strict=True)):
        yield svg.tag("g", svg.title(one.words or one.name), svg.text(text, x, box.y + LINE * i + 13, f"name {one.tone}", spot.anchor))


def _dot(mark: Mark, x: float, y: float) -> str:
    return svg.tag("g", svg.title(mark.words or mark.name), svg.tag("circle", cx=x, cy=y, r=7 if mark.tone == "source" else 4.5,
                   class_=f"mark {mark.tone}"))  # fmt: skip

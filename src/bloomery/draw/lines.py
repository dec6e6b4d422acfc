"""Line charts: several series over one axis, reference levels, and a cursor that names the values under the pointer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.draw import svg
from bloomery.draw.axes import foot, grid
from bloomery.draw.numbers import number, si
from bloomery.draw.scales import Scale, labels, spread

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A named line; `tone` 1 to 5 picks its colour, `faint` draws it behind and thin, `dots` marks each point."""

    name: str
    points: Sequence[Point]
    tone: int = 1
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, such as what gzip reaches; named and numbered to the right of the frame."""

    name: str
    value: float


def thin(points: Sequence[Point], limit: int = 240) -> list[Point]:
    """At most about `limit` points that look the same: of each stretch the lowest and the highest, so no spike is lost."""
    if len(points) <= limit:
        return list(points)
    kept: list[Point] = [points[0]]
    stretches = max(1, limit // 2 - 1)
    for i in range(stretches):
        part = points[1 + i * (len(points) - 2) // stretches : 1 + (i + 1) * (len(points) - 2) // stretches]
        finite = [p for p in part if math.isfinite(p[1])]
        if not finite:
            kept.extend(part[:1])
            continue
        ends = {min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])}
        kept.extend(sorted(ends))
    return [*kept, points[-1]]


def line_chart(
    series: Sequence[Series], *, label: str, x: str = "step", y: str = "", width: int = 520, height: int = 240,
    levels: Sequence[Level] = (), log_x: bool = False, log_y: bool = False, zero: bool = False,
) -> str:  # fmt: skip
    """An svg of `series`; `y` names the vertical unit, `zero` starts the axis at zero. Not-finite values leave gaps."""
    shown = [Series(s.name, _drawable(s.points, log_x, log_y), s.tone, s.faint, s.dots) for s in series]
    levels = [one for one in levels if math.isfinite(one.value) and (one.value > 0 or not log_y)]
    heights = [p[1] for s in shown for p in s.points] + [one.value for one in levels]
    low, high = spread(heights, log_y, zero)
    legend, top = _legend(shown, y, width)
    right = width - max(12.0, min(width * 0.34, max((svg.measure(_level_name(one)) for one in levels), default=0.0) + 12))
    places = Scale(low, high, height - 34, top, log_y)
    marks = places.ticks(max(3, height // 42))
    names = labels(marks)
    left = 10 + max((svg.measure(n) for n in names), default=20)
    low_x, high_x = spread((p[0] for s in shown for p in s.points), log_x, air=0)
    across = Scale(low_x, high_x, left, right, log_x)
    return svg.picture(
        width, height, label, legend, *grid(places, marks, names, left, right), *foot(across, x, height - 34, right),
        *(_level(one, places, left, right) for one in levels), *_lines(shown, across, places),
        *_level_names(levels, places, right, width), *_cursors(shown, across, top, height - 34, x, width), kind="lines",
    )  # fmt: skip


def _drawable(points: Sequence[Point], log_x: bool, log_y: bool) -> list[Point]:
    good = [p for p in points if math.isfinite(p[0]) and (p[0] > 0 or not log_x)]
    return thin([(x, y if y > 0 or not log_y else math.nan) for x, y in good])


def _legend(series: Sequence[Series], unit: str, width: int) -> tuple[str, float]:
    """The unit of the vertical axis and, for several series, their names; and where the frame may begin below it."""
    parts, at, line = [svg.text(unit, 0, 13, "unit")], 0.0, 13
    if len(series) < 2:
        return ("".join(parts), 26) if unit else ("", 10)
    at = svg.measure(unit) + 22 if unit else 0.0
    for one in series:
        need = 22 + svg.measure(one.name) + 14
        if at and at + need > width:
            at, line = 0.0, line + 19
        swatch = svg.tag("line", x1=at, x2=at + 16, y1=line - 4, y2=line - 4, class_=f"line t{one.tone}{' faint' if one.faint else ''}")
        parts += [swatch, svg.text(svg.fit(one.name, width - 24), at + 22, line)]
        at += need
    return "".join(parts), line + 13


def _lines(series: Sequence[Series], across: Scale, places: Scale) -> Iterator[str]:
    for one in sorted(series, key=lambda s: not s.faint):
        for run in _unbroken(one.points):
            spots = [(across(a), places(b)) for a, b in run]
            style = f"line t{one.tone}{' faint' if one.faint else ''}"
            if len(spots) > 1:
                yield svg.path(spots, class_=style)
            if one.dots or len(spots) == 1:
                yield from (svg.tag("circle", cx=a, cy=b, r=2.6, class_=f"dot t{one.tone}") for a, b in spots)


def _unbroken(points: Sequence[Point]) -> Iterator[list[Point]]:
    run: list[Point] = []
    for point in points:
        if math.isfinite(point[1]):
            run.append(point)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _level(one: Level, places: Scale, left: float, right: float) -> str:
    y = places(one.value)
    return svg.tag("line", svg.title(f"{one.name}: {number(one.value)}"), x1=left, x2=right, y1=y, y2=y, class_="level")


def _level_name(one: Level) -> str:
    return f"{number(one.value)} {one.name}"


def _level_names(levels: Sequence[Level], places: Scale, right: float, width: float) -> Iterator[str]:
    """Names to the right of the frame, each led to its line, pushed apart so that they never touch each other."""
    order = sorted(levels, key=lambda one: places(one.value))
    spots: list[float] = []
    for one in order:
        spots.append(max(places(one.value), spots[-1] + 15) if spots else places(one.value))
    floor = places.start
    for i in range(len(spots) - 1, -1, -1):
        spots[i] = min(spots[i], floor)
        floor = spots[i] - 15
    for one, y in zip(order, spots, strict=True):
        yield svg.path([(right, places(one.value)), (right + 6, y)], class_="leader")
        shown = svg.fit(_level_name(one), width - right - 10)
        yield svg.tag("g", svg.title(_level_name(one)), svg.text(shown, right + 10, y + 4, "soft"))


def _cursors(series: Sequence[Series], across: Scale, top: float, bottom: float, x: str, width: int) -> Iterator[str]:
    """Invisible upright bands; resting on one shows a rule and the values there. They need no script."""
    table: dict[float, list[str]] = {}
    for one in series:
        for a, b in one.points:
            if math.isfinite(b):
                table.setdefault(a, []).append(f"{one.name} {number(b, 4)}")
    xs = sorted(table)
    full = [a for a in xs if len(table[a]) > 1] if len(series) > 1 else []
    limit = max(8, width // 7)
    xs = full if len(full) >= 8 else xs
    xs = xs[:: math.ceil(len(xs) / limit)] if len(xs) > limit else xs
    spots = [across(a) for a in xs]
    for i, a in enumerate(xs):
        start = across.start if i == 0 else (spots[i - 1] + spots[i]) / 2
        stop = across.stop if i == len(xs) - 1 else (spots[i] + spots[i + 1]) / 2
        words = "\n".join([f"{x} {si(a, digits=4) if abs(a) >= 10_000 else f'{a:g}'}", *table[a]])
        band = svg.tag("rect", x=start, y=top, width=max(0.5, stop - start), height=bottom - top)
        rule = svg.tag("line", x1=spots[i], x2=spots[i], y1=top, y2=bottom)
        yield svg.tag("g", svg.title(words), band, rule, class_="cursor")

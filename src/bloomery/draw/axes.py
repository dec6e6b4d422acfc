"""The frame of a chart: level rules with their numbers, and the foot with its marks and the name of its axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bloomery.draw import svg
from bloomery.draw.scales import Scale, labels


def grid(places: Scale, marks: Sequence[float], names: Sequence[str], left: float, right: float) -> Iterator[str]:
    """A rule and a number for each mark of the upright axis, and the frame."""
    for mark, name in zip(marks, names, strict=True):
        y = places(mark)
        yield svg.tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid")
        yield svg.text(name, left - 8, y + 4, "tick y", "end")
    yield svg.tag("rect", x=left, y=places.stop, width=right - left, height=places.start - places.stop, class_="frame")


def foot(across: Scale, name: str, bottom: float, right: float) -> Iterator[str]:
    """The level axis: marks that do not touch each other, and its name at the right end of their line; steps are whole numbers."""
    yield svg.tag("line", x1=across.start, x2=across.stop, y1=bottom, y2=bottom, class_="axis")
    marks = [m for m in across.ticks(max(2, int((across.stop - across.start) // 70))) if name != "step" or float(m).is_integer()]
    until = right - svg.measure(name) - 10
    reached = 0.0
    for mark, shown in zip(marks, labels(marks), strict=True):
        x, half = across(mark), svg.measure(shown) / 2
        middle = max(x, half)
        if middle + half < until and middle - half >= reached:
            yield svg.tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis")
            yield svg.text(shown, middle, bottom + 19, "tick x", "middle")
            reached = middle + half + 8
    yield svg.text(name, right, bottom + 19, "unit", "end")

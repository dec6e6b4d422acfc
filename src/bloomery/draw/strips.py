"""A field of small squares: one number for each pair of a row and a column, darker where it is larger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bloomery.draw import svg
from bloomery.draw.numbers import number

CELL = 26.0


def field(
    rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], tuple[float, str]], *, label: str, over: str = "",
    full: float = 0.0, width: int = 520,
) -> str:  # fmt: skip
    """An svg; `cells` hold value and words, `over` names the columns, `full` is the value of the deepest colour (0: the largest)."""
    left = min(width * 0.3, max((svg.measure(r, 13) for r in rows), default=0.0) + 14)
    wide = min(86.0, (width - left) / max(1, len(columns)))
    tall, head = CELL, 22.0
    full = full or max((v for v, _ in cells.values()), default=0.0) or 1.0
    parts = [svg.text(svg.fit(over, left - 8), 0, 13, "unit")]
    reached = 0.0
    for i, name in enumerate(columns):
        half, x = svg.measure(name) / 2, left + (i + 0.5) * wide
        if x - half >= reached:
            parts.append(svg.text(name, x, 13, "tick x", "middle"))
            reached = x + half + 6
    digits = [number(v, 2) for v, _ in cells.values()]
    told = max((svg.measure(d, 11.5) for d in digits), default=0.0) + 6 <= wide
    for j, row in enumerate(rows):
        y = head + j * tall
        parts.append(svg.tag("g", svg.title(row), svg.text(svg.fit(row, left - 10, 13), 0, y + tall / 2 + 4.5, "name")))
        for i, column in enumerate(columns):
            if (row, column) in cells:
                value, words = cells[row, column]
                parts.append(_cell(value, words, left + i * wide, y, wide, min(1.0, max(0.0, value / full)), told))
    return svg.picture(max(left + wide * len(columns), left + 40), head + tall * max(1, len(rows)), label, *parts, kind="strips")


def _cell(value: float, words: str, x: float, y: float, wide: float, share: float, told: bool) -> str:
    parts = [svg.title(words), svg.tag("rect", x=x + 1, y=y + 1, width=max(1.0, wide - 2), height=CELL - 2, class_="under")]
    parts.append(
        svg.tag("rect", x=x + 1, y=y + 1, width=max(1.0, wide - 2), height=CELL - 2, class_="cell", fill_opacity=round(share * 0.6, 3))
    )
    if told:
        parts.append(svg.text(number(value, 2), x + wide / 2, y + CELL / 2 + 4, "digits", "middle"))
    return svg.tag("g", *parts)

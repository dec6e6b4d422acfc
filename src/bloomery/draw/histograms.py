"""Histograms: how documents spread over one number, kept and dropped, with the limits that were set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bloomery.draw import svg
from bloomery.draw.numbers import count, number, si
from bloomery.draw.scales import Scale, labels


@dataclass(frozen=True)
class Layer:
    """Counts per bin, stacked in the order given; `tone` is a colour class: kept, dropped or plain."""

    name: str
    counts: Sequence[int]
    tone: str = "plain"


@dataclass(frozen=True)
class Limit:
    """A threshold: `sign` is one of < <= > >=, and says which side is kept."""

    sign: str
    value: float


def histogram(
    edges: Sequence[float], layers: Sequence[Layer], *, label: str, limits: Sequence[Limit] = (), log_x: bool = False,
    width: int = 350, height: int = 150,
) -> str:  # fmt: skip
    """An svg of stacked counts; `edges` ascend, one more than the counts. Limits outside the edges are not drawn.

    Raises ValueError where edges and counts do not fit.
    """
    bins = len(edges) - 1
    if bins < 1 or any(len(layer.counts) != bins for layer in layers) or any(b <= a for a, b in pairwise(edges)):
        raise ValueError("edges must ascend and be one more than the counts of every layer")
    top, bottom = 20.0, height - 22.0
    across = Scale(edges[0], edges[-1], 2, width - 2, log_x)
    tallest = max((sum(layer.counts[i] for layer in layers) for i in range(bins)), default=0) or 1
    up = Scale(0, tallest, 0, bottom - top)
    parts = [_bin(i, edges, layers, across, up, bottom) for i in range(bins)]
    parts.append(svg.tag("line", x1=2, x2=width - 2, y1=bottom, y2=bottom, class_="axis"))
    marks = across.ticks(4)
    reached = 0.0
    for mark, name in zip(marks, labels(marks), strict=True):
        half = svg.measure(name) / 2
        x = min(max(across(mark), half), width - half)
        if x - half > reached:
            parts += [svg.tag("line", x1=across(mark), x2=across(mark), y1=bottom, y2=bottom + 4, class_="axis"),
                      svg.text(name, x, bottom + 18, "tick x", "middle")]  # fmt: skip
            reached = x + half + 8
    parts += _limits([one for one in limits if edges[0] <= one.value <= edges[-1]], across, top, bottom, width)
    return svg.picture(width, height, label, *parts, kind="histogram")


def _bin(i: int, edges: Sequence[float], layers: Sequence[Layer], across: Scale, up: Scale, bottom: float) -> str:
    """One column: the bars of its layers from the axis upward, and a tall invisible one that carries the numbers."""
    x, stop = across(edges[i]), across(edges[i + 1])
    base, bars, words = bottom, [], [f"{number(edges[i])} to {number(edges[i + 1])}"]
    for layer in layers:
        tall = up(layer.counts[i])
        if layer.counts[i]:
            tall = max(tall, 1.0)  # a lone document is still visible
            shown = min(tall, base - 18)
            bars.append(svg.tag("rect", x=x + 0.5, y=base - shown, width=max(0.5, stop - x - 1), height=shown, class_=f"bin {layer.tone}"))
            base -= shown
        words.append(f"{layer.name} {count(layer.counts[i])}")
    hit = svg.tag("rect", x=x, y=18, width=stop - x, height=bottom - 18, class_="hit")
    return svg.tag("g", svg.title("\n".join(words)), *bars, hit)


def _limits(limits: Sequence[Limit], across: Scale, top: float, bottom: float, width: float) -> list[str]:
    parts, taken = [], -math.inf
    for one in sorted(limits, key=lambda o: o.value):
        x, name = across(one.value), f"{_SIGNS.get(one.sign, one.sign)}\u202f{_value(one.value)}"
        parts.append(svg.tag("line", svg.title(f"kept where {name}"), x1=x, x2=x, y1=top - 4, y2=bottom, class_="limit"))
        half = svg.measure(name) / 2
        at = min(max(x, half), width - half)
        if at - half > taken:
            parts.append(svg.text(name, at, 11, "limitname", "middle"))
            taken = at + half + 6
    return parts


_SIGNS = {"<=": "≤", ">=": "≥"}


def _value(value: float) -> str:
    if abs(value) >= 10_000:
        return si(value)
    return f"{value:g}".replace("-", "\u2212")


def limit_text(one: Limit) -> str:
    """A limit in words for a caption: '≥ 200'."""
    return f"{_SIGNS.get(one.sign, one.sign)}\u202f{_value(one.value)}"

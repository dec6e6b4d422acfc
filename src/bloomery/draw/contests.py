"""Methods side by side: the held-out figure of each method's best trial over tokens and over seconds, with the target as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.draw import svg
from bloomery.draw.bars import ROW, Bar, bar_chart
from bloomery.draw.lines import Level, Series, line_chart
from bloomery.draw.numbers import number

GAP, HEAD, EDGE = 36, 30, 4  # pixels between the two panels, above them, and beside them
TONES = 5  # what charts.css has; further methods are drawn thin, in the same tones


@dataclass(frozen=True)
class Contender:
    """A method's best trial: (tokens, seconds of training or None where they are not known, figure) at each measurement."""

    name: str
    points: Sequence[tuple[float, float | None, float]]


def contest(contenders: Sequence[Contender], title: str, unit: str, limit: float | None, width: int = 560, height: int = 320) -> str:
    """One picture of two panels, over tokens and over seconds (without those who have none); where trials have one measurement alone,
    a bar for each method."""
    if all(len(one.points) < 2 for one in contenders):
        bars = [Bar(one.name, one.points[-1][2], shown=f"{number(one.points[-1][2], 4)} {unit}") for one in contenders if one.points]
        drawn = bar_chart(bars, label=title, unit=unit, width=width)
        inside = svg.tag("g", drawn[drawn.index(">") + 1 : drawn.rindex("</svg>")], transform=f"translate({EDGE},{HEAD})")
        said = svg.text(f"{title}; less is better", EDGE, 15, "name main")
        return svg.picture(width + 2 * EDGE, ROW * len(bars) + HEAD, f"{title}: {_said(contenders)}", said, inside, kind="bars")
    levels = [Level("target", limit)] if limit is not None else []
    panels = []
    for i, x in enumerate(("tokens", "seconds of training")):
        shown = [(j, one) for j, one in enumerate(contenders) if all(p[i] is not None for p in one.points)]
        if not shown:
            continue
        series = [Series(one.name, [(p[i], p[2]) for p in one.points], j % TONES + 1, j >= TONES, True) for j, one in shown]
        drawn = line_chart(series, label=x, x=x, y=unit, width=width, height=height, levels=levels, log_y=True)
        inside = drawn[drawn.index(">") + 1 : drawn.rindex("</svg>")]
        panels.append(svg.tag("g", inside, transform=f"translate({EDGE + i * (width + GAP)},{HEAD})"))
    whole = len(panels) * (width + GAP) - GAP + 2 * EDGE
    return svg.picture(whole, height + HEAD, f"{title}: {_said(contenders)}", svg.text(title, EDGE, 15, "name main"), *panels, kind="lines")


def over_training(contenders: Sequence[Contender], name: str, unit: str, width: int = 520, height: int = 260) -> str:
    """A figure at each checkpoint over the tokens trained on, a line for each contender."""
    series = [Series(one.name, [(p[0], p[2]) for p in one.points], j % TONES + 1, j >= TONES, True) for j, one in enumerate(contenders)]
    return line_chart(series, label=f"{name}: {_said(contenders)}", x="tokens trained on", y=unit, width=width, height=height)


def _said(contenders: Sequence[Contender]) -> str:
    """The last figures, for those who do not see the picture."""
    return ", ".join(f"{one.name} ends at {number(one.points[-1][2], 4)}" for one in contenders if one.points)

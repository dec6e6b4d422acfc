"""A line of stations: what became of a thing on each hop, with the figures of the hop under its arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.draw import svg

BOX, GAP = 112.0, 92.0  # widths of a station and of the way between two, at least
LINE = 16.0


@dataclass(frozen=True)
class Hop:
    """From one station to the next; `lines` are its figures, `ok` None where it was not judged."""

    start: str
    stop: str
    lines: tuple[str, ...] = ()
    ok: bool | None = None
    words: str = ""


def rows_of(hops: Sequence[Hop]) -> list[list[Hop]]:
    """Hops that follow each other on one line; one that starts elsewhere begins another line."""
    rows: list[list[Hop]] = []
    for hop in hops:
        if rows and rows[-1][-1].stop == hop.start:
            rows[-1].append(hop)
        else:
            rows.append([hop])
    return rows


def stations(hops: Sequence[Hop], *, label: str, width: int = 1060) -> str:
    """An svg: from left to right where there is room for every station, else from top to bottom."""
    rows = rows_of(hops)
    longest = max((len(row) for row in rows), default=1)
    told = max((svg.measure(text) for hop in hops for text in hop.lines), default=0.0) + 14
    if width < (longest + 1) * BOX + longest * max(GAP, told):
        return _upright(rows, label, width)
    gap = max(GAP, told)
    box = min(168.0, (width - longest * gap) / (longest + 1))
    gap = min((width - (longest + 1) * box) / longest, 190.0)
    lines = max((len(hop.lines) for hop in hops), default=0)
    tall = 52.0 + max(0.0, lines * LINE - 10)
    starts = _starts(rows, longest)
    parts = [part for i, row in enumerate(rows) for part in _level(row, starts[i], i * (tall + 22), box, gap, i > 0)]
    return svg.picture(longest * (box + gap) + box, len(rows) * (tall + 22) - 18, label, *parts, kind="stations")


def _starts(rows: Sequence[Sequence[Hop]], longest: int) -> list[int]:
    """The column in which each line begins: under the station it starts from, where the line has room there."""
    seen: dict[str, int] = {}
    starts = []
    for row in rows:
        start = min(seen.get(row[0].start, 0), longest - len(row))
        starts.append(start)
        seen.setdefault(row[0].start, start)
        for i, hop in enumerate(row):
            seen.setdefault(hop.stop, start + i + 1)
    return starts


def _level(row: Sequence[Hop], first: int, y: float, box: float, gap: float, again: bool) -> Iterator[str]:
    yield _station(row[0].start, first * (box + gap), y, box, again)
    for i, hop in enumerate(row, first + 1):
        x, tone = i * (box + gap), _tone(hop)
        start, stop, middle = x - gap + 6, x - 6, y + 22
        parts = [
            svg.title(hop.words),
            svg.tag("line", x1=start, x2=stop - 6, y1=middle, y2=middle, class_=f"way {tone}"),
            svg.tag(
                "path", d=f"M{stop - 8:.1f} {middle - 5:.1f}L{stop:.1f} {middle:.1f}L{stop - 8:.1f} {middle + 5:.1f}z", class_=f"tip {tone}"
            ),
        ]
        if hop.ok is not None:
            parts.append(svg.text("✓" if hop.ok else "✗", (start + stop) / 2, middle - 8, f"sign {tone}", "middle"))
        parts += [svg.text(text, (start + stop) / 2, middle + 20 + LINE * j, "soft", "middle") for j, text in enumerate(hop.lines)]
        yield svg.tag("g", *parts)
        yield _station(hop.stop, x, y, box)


def _station(name: str, x: float, y: float, box: float, again: bool = False) -> str:
    """A box with the name in one line, or in two at a space; dashed where the station stands a second time."""
    lines = [name]
    if svg.measure(name, 13) > box - 14 and " " in name:
        cut = min((i for i, c in enumerate(name) if c == " "), key=lambda i: abs(i - len(name) / 2))
        lines = [name[:cut], name[cut + 1 :]]
    first = y + 22 + 4.5 - 8 * (len(lines) - 1)
    words = [svg.text(svg.fit(t, box - 12, 13), x + box / 2, first + 16 * i, "name", "middle") for i, t in enumerate(lines)]
    return svg.tag(
        "g",
        svg.title(name),
        svg.tag("rect", x=x + 0.5, y=y + 0.5, width=box - 1, height=43, rx=4, class_="box cached" if again else "box"),
        *words,
    )


def _tone(hop: Hop) -> str:
    return "" if hop.ok is None else "good" if hop.ok else "bad"


def _upright(rows: Sequence[Sequence[Hop]], label: str, width: float) -> str:
    """One station under the other, the figures to the right of each arrow."""
    parts: list[str] = []
    y, box = 0.0, min(width - 1, 260.0)
    for place, row in enumerate(rows):
        parts.append(_station(row[0].start, 0, y, box, place > 0))
        y += 44
        for hop in row:
            tall = max(34.0, LINE * len(hop.lines) + 16)
            tone, x = _tone(hop), 24.0
            bits = [
                svg.title(hop.words),
                svg.tag("line", x1=x, x2=x, y1=y + 5, y2=y + tall - 10, class_=f"way {tone}"),
                svg.tag(
                    "path",
                    d=f"M{x - 5:.1f} {y + tall - 12:.1f}L{x:.1f} {y + tall - 4:.1f}L{x + 5:.1f} {y + tall - 12:.1f}z",
                    class_=f"tip {tone}",
                ),
            ]
            if hop.ok is not None:
                bits.append(svg.text("✓" if hop.ok else "✗", x + 14, y + tall / 2 + 4, f"sign {tone}"))
            first = y + (tall - LINE * len(hop.lines)) / 2 + 12
            bits += [svg.text(svg.fit(text, width - x - 40), x + 34, first + LINE * j, "soft") for j, text in enumerate(hop.lines)]
            parts += [svg.tag("g", *bits), _station(hop.stop, 0, y + tall, box)]
            y += tall + 44
        y += 20
    return svg.picture(width, max(y - 20, 20.0), label, *parts, kind="stations")

"""The recipe as a graph of steps: layers from left to right where there is room, one step a line where there is not.

The wide layout is the layered one (Sugiyama, Tagawa & Toda 1981): longest-path layers, a dummy on every layer that an edge
passes, order by barycentres. Equal input gives the same picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bloomery.draw import svg

TALL, GAP = 62.0, 20.0


@dataclass(frozen=True)
class Node:
    """A step: `key` is unique, `after` are the keys of the steps it reads from; `note` is its time, or that it was cached."""

    key: str
    name: str
    kind: str = ""
    note: str = ""
    after: tuple[str, ...] = ()
    tone: str = ""  # "", "main" or "cached"


def graph(nodes: Sequence[Node], *, label: str, width: int = 1060) -> str:
    """An svg of the steps and what flows between them. Keys in `after` that are no node are passed over; cycles are cut."""
    known = in_order(nodes)
    layer = _layers(known)
    depth = max(layer.values(), default=0) + 1
    wide = (width - 26.0 * (depth - 1)) / depth
    if width < 600 or wide < 96:
        return _listed(known, label, width)
    return _layered(known, layer, label, width, min(172.0, wide))


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes so that each comes after what it reads, otherwise in the order given; edges that close a cycle are cut."""
    by_key = {n.key: n for n in nodes}
    done: dict[str, Node] = {}
    waiting = list(by_key.values())
    while waiting:
        ready = next((n for n in waiting if all(a in done or a not in by_key for a in n.after)), waiting[0])
        waiting.remove(ready)
        kept = tuple(a for a in dict.fromkeys(ready.after) if a in done)
        done[ready.key] = Node(ready.key, ready.name, ready.kind, ready.note, kept, ready.tone)
    return list(done.values())


def _layers(nodes: Sequence[Node]) -> dict[str, int]:
    layer: dict[str, int] = {}
    for node in nodes:
        layer[node.key] = max((layer[a] + 1 for a in node.after), default=0)
    return layer


# ---- wide: layers from left to right -------------------------------------------------------------------------------------


def _layered(nodes: Sequence[Node], layer: Mapping[str, int], label: str, width: int, wide: float) -> str:
    depth = max(layer.values(), default=0) + 1
    columns: list[list[str]] = [[] for _ in range(depth)]
    links: list[tuple[str, str]] = []
    for node in nodes:
        columns[layer[node.key]].append(node.key)
    for node in nodes:
        for source in node.after:
            links += _chain(source, node.key, layer, columns)
    _untangle(columns, links)
    real = {n.key: n for n in nodes}
    place, height = _places(columns, real, links)
    pitch = (width - wide) / (depth - 1) if depth > 1 else 0.0
    pitch = min(pitch, wide + 90)
    x = {key: i * pitch for i, column in enumerate(columns) for key in column}
    edges = []
    for a, b in links:
        start = x[a] + wide
        edges.append(_curve(start, place[a], x[b] - (7 if b in real else 0), place[b]))
        if b not in real:  # a dummy: straight on through its column
            edges.append(svg.tag("line", x1=x[b], x2=x[b] + wide, y1=place[b], y2=place[b], class_="edge"))
        else:
            edges.append(_head(x[b], place[b]))
    boxes = [_box(n, x[n.key], place[n.key] - TALL / 2, wide) for n in nodes]
    used = (depth - 1) * pitch + wide
    return svg.picture(used, height, label, *edges, *boxes, kind="graph")


def _chain(source: str, target: str, layer: Mapping[str, int], columns: list[list[str]]) -> list[tuple[str, str]]:
    """The links from source to target through one dummy on each layer between; edges of one source share their dummies."""
    links, last = [], source
    for i in range(layer[source] + 1, layer[target]):
        dummy = f"\0{source}\0{i}"
        if dummy not in columns[i]:
            columns[i].append(dummy)
            links.append((last, dummy))
        last = dummy
    return [*links, (last, target)]


def _untangle(columns: list[list[str]], links: Sequence[tuple[str, str]]) -> None:
    """Order each layer by the mean place of its neighbours, forth and back, in place."""
    for sweep in range(6):
        forth = sweep % 2 == 0
        for i in range(1, len(columns)) if forth else range(len(columns) - 2, -1, -1):
            other = {key: spot for spot, key in enumerate(columns[i - 1 if forth else i + 1])}
            near: dict[str, list[int]] = {}
            for a, b in links:
                mine, theirs = (b, a) if forth else (a, b)
                if theirs in other:
                    near.setdefault(mine, []).append(other[theirs])
            now = {key: spot for spot, key in enumerate(columns[i])}
            mean = {k: sum(near[k]) / len(near[k]) if k in near else now[k] for k in columns[i]}
            columns[i].sort(key=lambda k: (mean[k], k.startswith("\0"), now[k]))


def _places(columns: Sequence[Sequence[str]], real: Mapping[str, Node], links: Sequence[tuple[str, str]]) -> tuple[dict[str, float], float]:
    """The middle of every node from the top, and the height of the whole: each layer centred, dummies as thin lanes."""
    tall = {k: TALL if k in real else 14.0 for column in columns for k in column}
    whole = max(sum(tall[k] for k in c) + GAP * (len(c) - 1) for c in columns if c) + 4 if real else 20.0
    place: dict[str, float] = {}
    for column in columns:
        at = (whole - sum(tall[k] for k in column) - GAP * (len(column) - 1)) / 2
        for key in column:
            place[key] = at + tall[key] / 2
            at += tall[key] + GAP
    return place, whole


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x2 - x1) / 2
    return svg.tag("path", d=f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}", class_="edge")


def _head(x: float, y: float) -> str:
    return svg.tag("path", d=f"M{x - 8:.1f} {y - 4:.1f}L{x - 1:.1f} {y:.1f}L{x - 8:.1f} {y + 4:.1f}z", class_="head")


def _box(node: Node, x: float, y: float, wide: float) -> str:
    """A step as a box: its name, then the stage where it is called otherwise, then the note."""
    second = node.kind if node.kind != node.name else ""
    lines = [(node.name, "name", 13), *((t, "soft", 12) for t in (second, node.note) if t)]
    first = y + TALL / 2 - (len(lines) - 1) * 8.5 + 4.5
    words = [svg.text(svg.fit(t, wide - 22, px), x + 12, first + i * 17, c) for i, (t, c, px) in enumerate(lines)]
    frame = svg.tag("rect", x=x + 0.5, y=y + 0.5, width=wide - 1, height=TALL - 1, rx=4, class_=f"box {node.tone}".strip())
    return svg.tag("g", _tooltip(node), frame, *words)


def _tooltip(node: Node) -> str:
    return svg.title(" · ".join(p for p in (node.name, node.kind, node.note) if p))


# ---- narrow: one step a line ---------------------------------------------------------------------------------------------


def _listed(nodes: Sequence[Node], label: str, width: int) -> str:
    """One step a line, each source with a lane of its own on the left, as long as anything still reads from it."""
    row = 44.0
    spot = {n.key: i for i, n in enumerate(nodes)}
    until = {n.key: max((i for i, m in enumerate(nodes) if n.key in m.after), default=spot[n.key]) for n in nodes}
    lane: dict[str, int] = {}
    busy: list[int] = []  # the row until which each lane is taken
    for node in nodes:
        i = spot[node.key]
        if until[node.key] == i:
            continue
        free = next((j for j, end in enumerate(busy) if end <= i), len(busy))
        busy[free : free + 1] = [until[node.key]]
        lane[node.key] = free
    left = 12.0 + 11.0 * len(busy)
    parts = []
    for key, j in lane.items():
        x, start, stop = left - 12 - 11.0 * j, spot[key] * row + row / 2, until[key] * row + row / 2
        shape = f"M{left} {start + 5:.1f}H{x + 5}Q{x} {start + 5:.1f} {x} {start + 10:.1f}V{stop - 10:.1f}"
        parts.append(svg.tag("path", d=shape, class_="edge"))
        for node in nodes:
            if key in node.after:
                y = spot[node.key] * row + row / 2 - 5
                parts.append(svg.tag("path", d=f"M{x} {y - 5:.1f}Q{x} {y:.1f} {x + 5} {y:.1f}H{left - 6}", class_="edge"))
                parts.append(_head(left, y))
    for node in nodes:
        parts.append(_line(node, left, spot[node.key] * row, width - left))
    return svg.picture(width, max(1, len(nodes)) * row, label, *parts, kind="graph")


def _line(node: Node, x: float, y: float, wide: float) -> str:
    note = svg.fit(node.note, wide * 0.45)
    room = wide - svg.measure(note) - 34
    second = node.kind if node.kind != node.name else ""
    name = svg.fit(node.name, room, 13)
    words = [svg.text(name, x + 12, y + 26.5, "name")]
    rest = room - svg.measure(name, 13) - 10
    if second and rest > 30:
        words.append(svg.text(svg.fit(second, rest), x + 12 + svg.measure(name, 13) + 10, y + 26.5, "soft"))
    words.append(svg.text(note, x + wide - 12, y + 26.5, "soft", "end"))
    frame = svg.tag("rect", x=x + 0.5, y=y + 4.5, width=wide - 1, height=35, rx=4, class_=f"box {node.tone}".strip())
    return svg.tag("g", _tooltip(node), frame, *words)

"""Every drawing is sound XML, named for screen readers, inside its frame, and proof against hostile words."""

from __future__ import annotations

import math
import random
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from bloomery.draw import svg
from bloomery.draw.bars import Bar, bar_chart
from bloomery.draw.funnels import Stratum, funnel_chart, strata, unaccounted
from bloomery.draw.graphs import Node, graph, in_order
from bloomery.draw.histograms import Layer, Limit, histogram
from bloomery.draw.lines import Level, Series, line_chart, thin
from bloomery.draw.page import standalone, style

EVIL = "</svg><script>alert('x')</script> & \" ]]> \x00\x1b\ud800 " + "wide " * 30
WIDTHS = [350, 520, 700, 1060]


def parsed(drawn: str) -> ElementTree.Element:
    root = ElementTree.fromstring(drawn)
    assert root.tag == "svg" and root.get("role") == "img" and root.get("aria-label")
    assert not list(root.iter("script"))
    return root


def numbers_of(path: str) -> list[tuple[float, float]]:
    flat = [float(n) for n in re.findall(r"-?\d+\.?\d*", path)]
    return list(zip(flat[::2], flat[1::2], strict=True))


def inside(root: ElementTree.Element) -> None:
    """Nothing leaves the picture: shapes exactly, words by their estimated width."""
    _, _, width, height = (float(n) for n in root.get("viewBox").split())
    for one in root.iter():
        if one.tag == "rect":
            assert float(one.get("x")) >= -0.1 and float(one.get("x")) + float(one.get("width")) <= width + 0.1
            assert float(one.get("y")) >= -0.1 and float(one.get("y")) + float(one.get("height")) <= height + 0.1
        if one.tag == "path" and "line" in (one.get("class") or ""):
            assert all(-0.1 <= x <= width + 0.1 and -0.1 <= y <= height + 0.1 for x, y in numbers_of(one.get("d")))
        if one.tag == "text" and one.text:
            wide = svg.measure(one.text) * 0.8
            x = float(one.get("x")) - {"start": 0, "middle": wide / 2, "end": wide}[one.get("text-anchor", "start")]
            assert x >= -12 and x + wide <= width + 12, (one.text, x, wide, width)
            assert 0 < float(one.get("y")) <= height


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("log", [False, True])
def test_lines(width, log):
    r = random.Random(width)
    points = [(i, 9 * math.exp(-i / 200) + 1 + r.random()) for i in range(1, 3000)]
    points[70] = (71, math.nan)
    series = [Series("train", points, 2, faint=True), Series(EVIL, points[::100], 1, dots=True)]
    drawn = line_chart(
        series,
        label="a loss " + EVIL,
        y="nats",
        width=width,
        log_x=log,
        log_y=log,
        levels=[Level(EVIL, 2.0), Level("xz", 2.01), Level("nan", math.nan)],
    )
    root = parsed(drawn)
    inside(root)
    frame = next(e for e in root.iter("rect") if e.get("class") == "frame")
    left, top = float(frame.get("x")), float(frame.get("y"))
    right, bottom = left + float(frame.get("width")), top + float(frame.get("height"))
    for path in (e for e in root.iter("path") if (e.get("class") or "").startswith("line")):
        assert all(left - 0.1 <= x <= right + 0.1 and top - 0.1 <= y <= bottom + 0.1 for x, y in numbers_of(path.get("d")))
    ups = [float(e.get("y")) for e in root.iter("text") if e.get("class") == "tick y"]
    assert len(ups) >= 2 and ups == sorted(ups, reverse=True)
    assert any("nats" in "".join(e.itertext()) for e in root.iter("text"))
    assert len(list(root.iter("title"))) > 10


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(0, math.nan)], [(5, 2.0), (5, 2.0)], [(0, 1e300), (1, -1e300)], [(1, 0.0), (2, 0.0)]])
def test_lines_of_hardly_anything(points):
    inside(parsed(line_chart([Series("a", points)], label="little")))
    parsed(line_chart([Series("a", points)], label="little", log_x=True, log_y=True, zero=True))


def test_level_names_never_touch():
    root = parsed(line_chart([Series("a", [(0, 1), (9, 6)])], label="x", levels=[Level(str(i), 1 + i / 1000) for i in range(6)]))
    spots = sorted(float(e.get("y")) for e in root.iter("text") if e.get("class") == "soft")
    assert len(spots) == 6 and all(b - a > 12 for a, b in pairwise(spots))


def test_thin_keeps_ends_and_spikes():
    points = [(i, 0.0) for i in range(10_000)]
    points[4321] = (4321, 99.0)
    kept = thin(points)
    assert len(kept) <= 250 and kept[0] == points[0] and kept[-1] == points[-1] and (4321, 99.0) in kept
    assert [p[0] for p in kept] == sorted(p[0] for p in kept)


def test_histogram():
    edges = [i / 10 for i in range(11)]
    kept, dropped = [5, 0, 90, 40, 3, 0, 1, 0, 0, 2], [0, 0, 10, 0, 0, 0, 0, 0, 0, 50]
    root = parsed(
        histogram(
            edges,
            [Layer("kept", kept, "kept"), Layer("dropped", dropped, "dropped")],
            label="h",
            limits=[Limit("<", 0.3), Limit(">=", 0.31), Limit("<", 7)],
        )
    )
    inside(root)
    bars = [e for e in root.iter("rect") if "bin" in (e.get("class") or "")]
    assert len(bars) == sum(c > 0 for c in kept + dropped)
    assert len([e for e in root.iter("line") if e.get("class") == "limit"]) == 2
    with pytest.raises(ValueError):
        histogram([0, 1], [Layer("a", [1, 2])], label="h")
    with pytest.raises(ValueError):
        histogram([1, 0], [Layer("a", [1])], label="h")


@pytest.mark.parametrize("width", WIDTHS)
def test_bars(width):
    bars = [Bar("model", 1.93, 1.8, 2.1, True), Bar(EVIL, 2.4), Bar("negative", -0.5, -0.7, -0.2), Bar("gone", math.nan)]
    root = parsed(bar_chart(bars, label="b", width=width))
    inside(root)
    assert len(list(root.iter("rect"))) == 3
    parsed(bar_chart([], label="none"))
    parsed(bar_chart([Bar("zero", 0.0)], label="zero"))


@pytest.mark.parametrize("width", WIDTHS)
def test_funnel_pieces_fill_the_first_bar(width):
    rows = [
        Stratum("in", "read", 100, 1000),
        Stratum("drop", EVIL, 20, 300, "why"),
        Stratum("drop", "none", 0, 0),
        Stratum("drop", "b", 10, 100),
        Stratum("out", "train", 60, 500),
        Stratum("out", "heldout", 10, 100),
    ]
    assert unaccounted(rows) == (0, 0)
    root = parsed(funnel_chart(rows, label="f", width=width))
    inside(root)
    wide = {"in": 0.0, "drop": 0.0, "out": 0.0}
    for e in root.iter("rect"):
        if (e.get("class") or "").startswith("piece "):
            wide[e.get("class").split()[1]] += float(e.get("width"))
    assert wide["in"] == pytest.approx(wide["drop"] + wide["out"], abs=0.2)


def test_edits_that_lengthen_text_add_to_what_is_left():
    rows = [
        Stratum("in", "read", 10, 100),
        Stratum("drop", "a", 1, 30),
        Stratum("drop", "rewritten", 0, -10),
        Stratum("out", "train", 9, 80),
    ]
    assert unaccounted(rows) == (0, 0)
    drawn = funnel_chart(rows, label="f")
    inside(parsed(drawn))
    assert "+10" in drawn and "−30" in drawn


def test_strata_of_a_funnel_file():
    funnel = {
        "in": {"documents": 5, "bytes": 50},
        "steps": [{"reason": "a", "documents": 2, "bytes": 20, "note": None}],
        "out": {"train": {"documents": 2, "bytes": 29}},
    }
    assert unaccounted(strata(funnel)) == (1, 1)


@pytest.mark.parametrize("width", WIDTHS)
def test_graph(width):
    nodes = [
        Node("c", "corpus", "curate", "21 s"),
        Node("t", "tokens", "tokenize", "cached", ("c",), "cached"),
        Node("m", EVIL, "pretrain", EVIL, ("t",), "main"),
        Node("s", "scores", "evaluate", "", ("m", "t", "c", "missing")),
        Node("f", "folder", "export", "", ("m",)),
        Node("r", "report", "report", "", ("s", "f")),
    ]
    root = parsed(graph(nodes, label="g", width=width))
    inside(root)
    boxes = [e for e in root.iter("rect") if "box" in e.get("class")]
    assert len(boxes) == 6
    spots = [(float(b.get("x")), float(b.get("y")), float(b.get("width")), float(b.get("height"))) for b in boxes]
    for i, a in enumerate(spots):
        for b in spots[i + 1 :]:
            assert a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]


def test_graph_of_many_odd_nodes():
    r = random.Random(0)
    nodes = [Node(str(i), f"step {i}", after=tuple(str(r.randrange(max(1, i))) for _ in range(3)) if i else ()) for i in range(30)]
    for width in WIDTHS:
        parsed(graph(nodes, label="g", width=width))
    parsed(graph([], label="none"))
    cycle = in_order([Node("a", "a", after=("b",)), Node("b", "b", after=("a", "b"))])
    assert [(n.key, n.after) for n in cycle] == [("a", ()), ("b", ("a",))]
    parsed(graph([Node("a", "a", after=("b",)), Node("b", "b", after=("a",))], label="cycle"))


def test_same_input_same_drawing():
    nodes = [Node(str(i), f"s{i}", after=(str(i // 2),) if i else ()) for i in range(9)]
    assert graph(nodes, label="g") == graph(nodes, label="g")


def test_fit_and_measure():
    assert svg.fit("short", 100) == "short"
    cut = svg.fit("a very long name indeed", 60)
    assert cut.endswith("…") and svg.measure(cut) <= 60
    assert svg.tag("a", x=1.0, y=-0.001, class_="k", aria_label='"<', gone=None) == '<a x="1" y="0" class="k" aria-label="&quot;&lt;"/>'


def test_fluid_widths():
    drawn = svg.fluid(lambda width: f"[{width}]", *svg.FULL)
    assert drawn.count("<div") == 4 and "full" in drawn and "[350]" in drawn and "[1060]" in drawn


def test_style_has_every_colour_in_both_schemes():
    sheet = style()
    light, dark = (
        re.search(r":root \{(.*?)\}", sheet, re.S).group(1),
        re.search(r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", sheet, re.S).group(1),
    )
    colours = set(re.findall(r"(--[a-z0-9]+): #", light))
    assert colours == set(re.findall(r"(--[a-z0-9]+): #", dark)) and len(colours) > 12
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", sheet))
    assert used <= colours | {"--sans", "--mono"}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize(
    "scheme", [r":root \{(.*?)\}", r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", r"@media print \{\s*:root \{(.*?)\}"]
)
def test_text_has_contrast(scheme):
    """WCAG 2 AA: 4.5 for words, 3 for lines and bars that carry meaning."""
    colour = dict(re.findall(r"(--[a-z0-9]+): (#[0-9a-f]{6})", re.search(scheme, style(), re.S).group(1)))

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(colour[a]), luminance(colour[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for words in ("--ink", "--soft", "--ember", "--good", "--bad"):
        assert contrast(words, "--paper") >= 4.5 and contrast(words, "--panel") >= 4.5, words
    for shape in ("--t1", "--t2", "--t3", "--t4", "--t5", "--slate"):
        assert contrast(shape, "--paper") >= 3, shape


def test_standalone_file():
    root = ElementTree.fromstring(standalone(bar_chart([Bar("a", 1.0)], label="b")))
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "prefers-color-scheme" in root[0].text

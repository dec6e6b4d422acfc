"""Points, intervals, fields and stations: sound XML, inside their frames, names that never touch, whatever the words."""

from __future__ import annotations

import random
import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from bloomery.draw import svg
from bloomery.draw.intervals import Change, interval_chart
from bloomery.draw.layers import fields
from bloomery.draw.placing import Box, place
from bloomery.draw.scatter import Mark, frontier, scatter
from bloomery.draw.stations import Hop, rows_of, stations
from bloomery.draw.strips import field

EVIL = "</svg><script>alert('x')</script> & \" ]]> \x00\ud800 " + "wide " * 20
WIDTHS = [350, 520, 700, 1060]


def parsed(drawn: str) -> ElementTree.Element:
    """The drawing, after a look that nothing leaves it."""
    root = ElementTree.fromstring(drawn)
    assert root.tag == "svg" and root.get("aria-label") and not list(root.iter("script"))
    _, _, width, height = (float(n) for n in root.get("viewBox").split())
    for one in root.iter():
        if one.tag == "rect":
            assert float(one.get("x")) >= -0.1 and float(one.get("x")) + float(one.get("width")) <= width + 0.1
            assert float(one.get("y")) >= -0.1 and float(one.get("y")) + float(one.get("height")) <= height + 0.1
        if one.tag == "circle":
            assert 0 <= float(one.get("cx")) <= width and 0 <= float(one.get("cy")) <= height
        if one.tag == "text" and one.text:
            wide = svg.measure(one.text) * 0.8
            x = float(one.get("x")) - {"start": 0, "middle": wide / 2, "end": wide}[one.get("text-anchor", "start")]
            assert x >= -12 and x + wide <= width + 12, (one.text, x, wide, width)
            assert 0 < float(one.get("y")) <= height
    return root


def boxes(root: ElementTree.Element, class_: str) -> list[Box]:
    found = []
    for one in root.iter("text"):
        if (one.get("class") or "").split()[:1] == [class_]:
            wide = svg.measure(one.text, 13) * 0.9
            x = float(one.get("x")) - {"start": 0, "middle": wide / 2, "end": wide}[one.get("text-anchor", "start")]
            found.append(Box(x, float(one.get("y")) - 11, wide, 13))
    return found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", range(3))
def test_names_of_points_never_touch(width, seed):
    r = random.Random(seed)
    marks = [
        Mark(f"GGUF Q{i} of a copy", 2 + 12 * r.random() ** 2, 2.9 + 0.1 * r.random(), "other") for i in range(10 if width > 400 else 5)
    ]
    marks.append(Mark("tuned", 13.7, 2.88, "source"))
    root = parsed(scatter(marks, label="s " + EVIL, x="MB", y="nats", log_x=True, level=("", 2.88), width=width))
    names = boxes(root, "name")
    assert len(names) == len(marks) and not any(a.touches(b) for a, b in combinations(names, 2))
    assert len(list(root.iter("circle"))) == len(marks)


def test_points_on_one_another_share_a_place():
    marks = [Mark(n, 13.7, 2.9, "source" if n == "tuned" else "main") for n in ("tuned", "merged", "Hugging Face")] + [
        Mark("small", 2.0, 3.0)
    ]
    names = boxes(parsed(scatter(marks, label="s", x="MB", y="nats")), "name")
    assert len(names) == 4 and not any(a.touches(b) for a, b in combinations(names, 2))


@pytest.mark.parametrize("marks", [[], [Mark(EVIL, 1.0, 1.0)], [Mark("a", 0.0, 1.0), Mark("b", float("nan"), 1.0)]])
@pytest.mark.parametrize("width", WIDTHS)
def test_hardly_any_points(marks, width):
    parsed(scatter(marks, label="little", x="MB", y="nats", log_x=True, level=(EVIL, 1.0), width=width))


def test_frontier():
    marks = [Mark("a", 1, 5), Mark("b", 2, 6), Mark("c", 3, 3), Mark("d", 3, 4), Mark("e", 9, 3)]
    assert [m.name for m in frontier(marks)] == ["a", "c"] and [m.name for m in frontier(marks, near=2.0)] == ["a"]


def test_noise_does_not_fill_the_chart():
    marks = [Mark("a", 1, 3.00001, "main"), Mark("b", 2, 3.0, "main")]
    tall = [parsed(scatter(marks, label="s", x="MB", y="nats", room=room)) for room in (0.0, 0.02)]
    spans = [abs(float(a.get("cy")) - float(b.get("cy"))) for a, b in (root.iter("circle") for root in tall)]
    assert spans[0] > 150 and spans[1] < 1


def test_no_place_is_no_name():
    assert place([(5, 5)], [(100, 17)], Box(0, 0, 20, 20)) == [None] and place([], [], Box(0, 0, 9, 9)) == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("better", ["lower", "higher", ""])
def test_intervals(width, better):
    changes = [
        Change("answer nats", -1.0, -1.2, -0.8, "−1.00", "(−1.20 to −0.80)", "2.6 → 1.6"), Change(EVIL, 0.1, -0.2, 0.4, "+0.1", "", EVIL),
        Change("alone", 0.5), Change("gone", float("nan")),
    ]  # fmt: skip
    root = parsed(interval_chart(changes, label="i", better=better, width=width))
    assert len(list(root.iter("circle"))) == 3
    zero = next(float(e.get("x1")) for e in root.iter("line") if e.get("class") == "zero")
    first, second, _ = (float(e.get("cx")) for e in root.iter("circle"))
    assert first < zero < second
    sides = [e.text for e in root.iter("text") if e.text and re.search("better|worse", e.text)]
    assert sides == {"lower": ["← better", "worse →"], "higher": ["← worse", "better →"], "": []}[better]
    parsed(interval_chart([], label="none", better=better, width=width))


@pytest.mark.parametrize("blocks", [1, 6, 48])
def test_fields(blocks):
    cells = {(n, str(b)): (0.01 * b, f"{n} {b}") for n in ("qkv", EVIL) for b in range(blocks)}
    root = parsed(field(["qkv", EVIL], [str(b) for b in range(blocks)], cells, label="f", over="block", width=520))
    tones = [float(e.get("fill-opacity")) for e in root.iter("rect") if e.get("class") == "cell"]
    assert len(tones) == 2 * blocks and tones == sorted(tones[:blocks]) * 2
    assert (len([e for e in root.iter("text") if e.get("class") == "digits"]) > 0) == (blocks < 20)
    parsed(field([], [], {}, label="none"))


def test_layers_share_a_scale_and_name_what_was_skipped():
    def card(step, error, **more):
        rows = [{"name": f"blocks.{b}.mlp.down", "bits": 4, "group": 32, "error": error * (b + 1), "weight_error": 0.1} for b in range(2)]
        return {"address": step, "step": step, "facts": {"layers": rows, "skipped": {"head": "tied", "embed": "tied"}, **more}}

    small, large = fields([card("a", 0.01), card("b", 0.1)])
    assert re.findall(r'fill-opacity="([\d.]+)"', small["chart"])[:2] == ["0.03", "0.06"]
    assert re.findall(r'fill-opacity="([\d.]+)"', large["chart"])[:2] == ["0.3", "0.6"]
    assert small["skipped"] == [{"reason": "tied", "names": "head, embed"}] and "largest 0.020 at blocks.1.mlp.down" in small["note"]
    nothing = {"name": "blocks.1.mlp.up", "error": None, "weight_error": 0.3}  # its outputs were all zero
    (some,) = fields([card("c", 0.1, layers=[{"name": "blocks.0.mlp.up", "error": 0.5, "weight_error": 0.2}, nothing])])
    assert "largest 0.50 at blocks.0.mlp.up" in some["note"] and some["others"] == ""
    (odd,) = fields([card("c", 0.1, layers=[{"name": "head", "error": 0.5}, {"name": "x"}, 3], skipped=None)])
    assert odd["chart"] == "" and odd["others"] == "head 0.50" and fields([card("d", 1, layers=None, skipped=None)]) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_stations(width):
    hops = [
        Hop("lm", "tuned", ("KL 0.84", "agrees 61.0 %"), True),
        Hop("tuned", EVIL, (EVIL[:60],), False),
        Hop("tuned", "server", (), None),
    ]
    root = parsed(stations(hops, label="c", width=width))
    stops = [e for e in root.iter("rect") if "box" in e.get("class")]
    assert len(stops) == 5 and len([e for e in stops if "cached" in e.get("class")]) == 1
    assert [e.text for e in root.iter("text") if "sign" in (e.get("class") or "")] == ["✓", "✗"]
    spots = [Box(*(float(e.get(k)) for k in ("x", "y", "width", "height"))) for e in stops]
    assert not any(a.touches(b) for a, b in combinations(spots, 2))
    parsed(stations([], label="none", width=width))


def test_hops_that_do_not_follow_begin_a_line():
    hops = [Hop("a", "b"), Hop("b", "c"), Hop("b", "d")]
    assert [[h.stop for h in row] for row in rows_of(hops)] == [["b", "c"], ["d"]]

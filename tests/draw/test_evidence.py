"""The picture of evidence: places say what the numbers say, words survive anything."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bloomery.draw.evidence import arm, asked, columns, ends, evidence_chart, signed, value
from bloomery.draw.numbers import MINUS, THIN
from bloomery.draw.page import standalone

KNOWN = {
    "what": "optimizer state", "relation": "less", "unit": "bits/byte", "margin": 0.0, "better": "lower", "ours": [2.21, 2.23],
    "baseline": [2.40, 2.42], "mean_ours": 2.22, "mean_baseline": 2.41, "spread_ours": 0.014, "spread_baseline": 0.0, "difference": -0.19,
    "low": -0.2, "high": -0.18, "outcome": "holds",
}  # fmt: skip


def drawn(**changes):
    return ElementTree.fromstring(evidence_chart([("galore: keeps less", "holds", [{**KNOWN, **changes}])], label="Evidence"))


def parts(root, name, word):
    return [one for one in root.iter(name) if word in (one.get("class") or "").split()]


def test_the_interval_lies_where_the_numbers_say():
    root = drawn()
    (zero,), (band,) = parts(root, "line", "zero"), [one for one in parts(root, "rect", "rest") if float(one.get("height")) > 20]
    middle, dot = float(zero.get("x1")), float(parts(root, "circle", "mark")[0].get("cx"))
    span = max(parts(root, "line", "span"), key=lambda one: float(one.get("x2")) - float(one.get("x1")))
    low, high = float(span.get("x1")), float(span.get("x2"))
    assert float(band.get("x")) < low < dot < high < middle
    assert (middle - dot) / (middle - low) == pytest.approx(0.19 / 0.2, rel=0.01)
    assert float(band.get("x")) + float(band.get("width")) == pytest.approx(middle, abs=0.02)


@pytest.mark.parametrize(
    ("relation", "margin", "left", "right"), [("less", 0.1, -1.12, -0.5), ("more", 0.1, 0.5, 1.12), ("near", 0.1, -0.5, 0.5)]
)
def test_the_shading_is_where_the_claim_is_true(relation, margin, left, right):
    root = drawn(relation=relation, margin=margin)
    band = next(one for one in parts(root, "rect", "rest") if float(one.get("height")) > 20)
    zero = float(parts(root, "line", "zero")[0].get("x1"))
    unit = (zero - float(drawn().find(".//rect[@class='rest'][@height='34']").get("x"))) / 1.12  # pixels of the largest end, 0.2
    ends_ = [(float(band.get("x")) - zero) / unit, (float(band.get("x")) + float(band.get("width")) - zero) / unit]
    assert ends_ == pytest.approx([left, right], abs=0.03)


@pytest.mark.parametrize(("outcome", "tone"), [("holds", "gain"), ("refuted", "loss"), ("undecided", "even")])
def test_colour_says_the_outcome(outcome, tone):
    assert parts(drawn(outcome=outcome), "circle", tone)


def test_no_figure_and_no_interval_are_drawn_as_such():
    blank = drawn(difference=None, low=None, high=None, mean_ours=None, spread_ours=None, outcome="refuted")
    assert not parts(blank, "circle", "mark") and "no figure" in "".join(blank.itertext())
    assert parts(drawn(low=None, high=None), "circle", "mark") and not parts(drawn(low=None, high=None), "line", "span")
    assert parts(drawn(low=0, high=0, difference=0), "circle", "mark")


def test_hostile_and_long_words_stay_inside_and_the_file_stands_alone():
    evil = "</svg><script>alert('x')</script> & \x00" + "wide " * 60
    root = drawn(what=evil, unit=evil)
    assert not list(root.iter("script"))
    alone = ElementTree.fromstring(standalone(evidence_chart([(evil, "undecided", [KNOWN])], label=evil)))
    assert alone.tag.endswith("svg") and alone.find("{http://www.w3.org/2000/svg}style") is not None


def test_words():
    assert value(8123456, "bytes") == f"8.12{THIN}MB" and value(None, "x") == "–"
    assert signed(0.01, "bits") == f"+0.0100{THIN}bits" and signed(-0.19, "") == f"{MINUS}0.190"
    assert arm(KNOWN, "ours") == f"2.220 ± 0.014{THIN}bits/byte" and arm(KNOWN, "baseline", True) == "2.410"
    assert ends(KNOWN) == f"{MINUS}0.200 to {MINUS}0.180" and ends({**KNOWN, "low": -0.19, "high": -0.19}) == "exact"
    assert asked(KNOWN) == "below 0" and asked({**KNOWN, "relation": "near", "margin": 0.5}) == f"within ±0.500{THIN}bits/byte"
    assert asked({**KNOWN, "margin": -0.02}) == f"below 0.0200{THIN}bits/byte"
    assert columns(KNOWN)[-1] == "holds" and len(columns(KNOWN)) == 7

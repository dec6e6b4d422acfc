"""Families of copies, what is comparable, which is the smallest that keeps."""

from __future__ import annotations

import pytest

from bloomery.draw.copies import families, found, panels, smallest

SIZE = {"bytes": 100, "source_bytes": 400, "agreement": 0.95, "text": "t", "source_nats": 3.0}


def card(step, of, nats=3.1, **more):
    return {
        "address": step * 4,
        "name": f"x-{step}",
        "step": step,
        "facts": {"copy": {"label": step.upper(), "of": of, "nats": nats, **SIZE, **more}},
    }


def test_a_copy_of_a_copy_belongs_to_the_first_source():
    cards = [
        card("a", "x-lm"),
        card("b", "x-a", 3.2, source_nats=3.1, source_bytes=100),
        card("c", "x-tuned"),
        card("d", "x-a", text="other"),
    ]
    groups = families(found(cards))
    assert [(g.root, [m.step for m in g.members]) for g in groups] == [("x-lm", ["a", "b"]), ("x-tuned", ["c"]), ("x-a", ["d"])]
    assert groups[0].comparable() and groups[0].parents["bbbb"].step == "a" and groups[0].source("source_bytes") == 400


def test_circles_end():
    assert sum(len(g.members) for g in families(found([card("a", "x-b"), card("b", "x-a"), card("c", "x-c")]))) == 3


def test_sources_measured_on_other_tokens_are_not_compared():
    cards = [{"address": "l", "name": "x-lm", "step": "lm"}, card("a", "x-lm"), card("b", "x-a", 2.4, source_nats=2.35)]
    (family,) = families(found(cards))
    assert not family.comparable() and [family.rise(m) for m in family.members] == pytest.approx([0.1, 0.15])
    (panel,) = panels(cards)
    assert "more than lm" in panel["chart"] and "changes are drawn" in panel["note"]
    assert "more than" not in panels([card("a", "x-lm"), card("b", "x-lm", 3.05)])[0]["chart"]


@pytest.mark.parametrize(
    "speed, said", [(100.0, "0.50\u202f×: no speed-up here"), (208.0, "1.0\u202f×: no speed-up here"), (600.0, "3\u202f×")]
)
def test_no_speed_up_is_said(speed, said):
    (panel,) = panels([card("a", "x-lm", decode_tokens_per_second=speed, source_decode_tokens_per_second=200.0)])
    assert panel["rows"][1]["against"] == said and panel["rows"][0]["speed"] == "200"


def test_smallest_copy_that_keeps():
    cards = [
        card("a", "x-lm", bytes=90),
        card("b", "x-lm", bytes=50, agreement=0.6),
        card("c", "x-lm", bytes=200),
        card("d", "x-lm", bytes=395),
    ]
    copy, ratio, agreement = smallest(cards)
    assert copy.step == "a" and ratio == pytest.approx(400 / 90) and agreement == 0.95
    copy, _, agreement = smallest([*cards, card("e", "x-a", bytes=20, agreement=0.97)])
    assert copy.step == "e" and agreement == pytest.approx(0.92)  # 5 and 3 in a hundred may be different tokens
    assert smallest([*cards, card("e", "x-a", bytes=20, agreement=0.94)])[0].step == "a"
    assert smallest([card("b", "x-lm", agreement=0.6), card("d", "x-lm", bytes=395)]) is None and smallest([]) is None


def test_the_table_has_every_copy_and_the_source_first():
    rows = panels([card("a", "x-lm", bytes=90), card("b", "x-lm", bytes=None), card("c", "x-lm", 3.0, bytes=200)])[0]["rows"]
    assert [r["label"] for r in rows] == ["x-lm", "C", "A", "B"] and rows[1]["change"] == "0" and rows[2]["change"] == "+0.10"
    assert [r["tone"] for r in rows] == ["source", "main", "main", "other"]


def test_a_copy_that_names_no_source_is_of_its_model():
    cards = [
        {"address": "l" * 4, "name": "x-lm", "step": "lm"},
        {**card("a", None), "inputs": {"model": ["l" * 4], "data": ["q"]}},
        card("b", "x-lm"),
    ]
    assert [(g.root, len(g.members)) for g in families(found(cards))] == [("x-lm", 2)]
    assert panels(cards)[0]["rows"][0]["label"] == "lm" and families(found([card("a", None)]))[0].root == ""


def test_noise_is_no_advantage_and_equal_labels_are_told_apart():
    cards = [card("a", "x-lm", 3.1002, bytes=90), card("b", "x-lm", 3.1, bytes=300, label="A")]
    (panel,) = panels(cards)
    assert [r["tone"] for r in panel["rows"]] == ["source", "other", "main"] and "A (a)" in panel["chart"] and "A (b)" in panel["chart"]

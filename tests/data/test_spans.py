from __future__ import annotations

import random

import pytest

from bloomery.data.spans import changed
from bloomery.seams import Doc


def test_exact_spans_follow_and_vanish():
    doc = Doc("d", "0123456789", spans=[(0, 2, 1.0), (2, 5, 2.0), (4, 8, 3.0), (9, 10, 4.0)])
    found = changed(doc, [(6, 7, "six"), (2, 5, "")])
    assert found.text == "015six789"
    assert found.spans == [(0, 2, 1.0), (2, 7, 3.0), (8, 9, 4.0)]
    assert [found.text[a:b] for a, b, _ in found.spans] == ["01", "5six7", "9"]
    assert doc.text == "0123456789" and changed(doc, []) is doc and changed(doc, [(3, 4, "3")]) is doc
    with pytest.raises(ValueError, match="overlap"):
        changed(doc, [(0, 3, ""), (2, 4, "")])


def test_property_a_span_that_no_change_touches_keeps_its_text():
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices("abcdef", k=40))
        cuts = sorted(draw.sample(range(41), 6))
        changes = [(cuts[i], cuts[i + 1], draw.choice(["", "X", "YY" * 5])) for i in (0, 2, 4)]
        spans = [(a, a + draw.randint(1, 8), 1.0) for a in range(32)]
        found = changed(Doc("d", text, spans=spans), changes)
        want = "".join(text[a:b] for a, b in [(0, cuts[0])]) + changes[0][2] + text[cuts[1] : cuts[2]] + changes[1][2]
        want += text[cuts[3] : cuts[4]] + changes[2][2] + text[cuts[5] :]
        assert found.text == want
        assert all(0 <= a < b <= len(want) for a, b, _ in found.spans)
        free = [(a, b) for a, b, _ in spans if all(b <= start or stop <= a for start, stop, _ in changes)]
        kept = [found.text[a:b] for a, b, _ in found.spans]
        for a, b in free:
            assert text[a:b] in kept

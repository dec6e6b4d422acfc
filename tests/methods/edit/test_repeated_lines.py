from __future__ import annotations

from bloomery.methods.edit.repeated_lines import RepeatedLines
from bloomery.seams import Doc, Rng

LINE = "This line stands three times here."


def test_exact():
    doc = Doc("d", f"{LINE}\nend\n  {LINE}\nend\n{LINE}", spans=[(0, 4, 1.0), (35, 38, 1.0)])
    (made,) = RepeatedLines().edit(doc, None, Rng((0,)))
    assert made.text == f"{LINE}\nend\nend\n" and [made.text[a:b] for a, b, _ in made.spans] == ["This", "end"]
    (twice,) = RepeatedLines(times=2).edit(doc, None, Rng((0,)))
    assert twice.text.count(LINE) == 2


def test_property_short_lines_stay():
    doc = Doc("d", "}\n" * 50)
    assert RepeatedLines().edit(doc, None, Rng((0,)))[0] is doc
    assert RepeatedLines(shortest=1).edit(doc, None, Rng((0,)))[0].text == "}\n"

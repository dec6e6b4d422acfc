from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bloomery.methods.edit.pieces import Pieces
from bloomery.seams import Doc, Rng


def test_exact():
    doc = Doc("d", "one two\n\nthree four five", {"path": "p"}, [(4, 12, 2.0)])
    made = Pieces(longest=12).edit(doc, None, Rng((0,)))
    assert [(one.id, one.text, one.spans) for one in made] == [
        ("d:0", "one two\n\n", [(4, 9, 2.0)]),
        ("d:1", "three four ", [(0, 3, 2.0)]),
        ("d:2", "five", [(0, 4, 0.0)]),  # nothing of it was to be trained on
    ]
    assert [one.text for one in Pieces(longest=12, shortest=5).edit(doc, None, Rng((0,)))] == ["one two\n\n", "three four five"]
    assert Pieces().edit(doc, None, Rng((0,))) == [doc]
    with pytest.raises(ValueError, match="longest"):
        Pieces(longest=0)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 40), st.integers(0, 40), st.integers(0, 200), st.integers(1, 50))
def test_property_nothing_is_lost_and_spans_stay_on_what_they_marked(text, longest, shortest, begin, length):
    shortest = min(shortest, longest)
    spans = [(begin, min(len(text), begin + length), 1.0)] if begin < len(text) else []
    made = Pieces(longest=longest, shortest=shortest).edit(Doc("d", text, {}, spans), None, Rng((0,)))
    assert "".join(one.text for one in made) == text
    assert all(len(one.text) <= longest + max(0, shortest - 1) for one in made)
    marked = "".join(one.text[a:b] for one in made for a, b, weight in one.spans if weight)
    assert marked == "".join(text[a:b] for a, b, _ in spans)

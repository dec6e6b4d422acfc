"""What holds for every edit that cleans: it is deterministic, does nothing more when done twice, and spans stay on what they marked."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bloomery.methods.edit.boilerplate import Boilerplate
from bloomery.methods.edit.normalize import Normalize
from bloomery.methods.edit.pii_mask import PiiMask
from bloomery.methods.edit.repeated_lines import RepeatedLines
from bloomery.seams import Doc, Drop, Rng

PARTS = [
    "a", "Word ", "\n", "\r\n", "\r", " ", "\t", "e\u0301", "\u1112\u1161\u11ab", "日本", "a@b.org", "+1 555 123 4567", "8.8.8.8", "\n\n",
    "A line that says the same again.\n", "See the privacy policy of this page.\n", "It was shown [12] to be so.\n", "[",
    "4111111111111111", "[1", "edit]", "2]", "So [3] it was.\n",
]  # fmt: skip
EDITS = [Normalize(), PiiMask(), RepeatedLines(), Boilerplate(), Boilerplate(terminal=False, words=0)]
docs = st.builds(
    lambda parts, marks: Doc("d", "".join(parts), {"path": "p"}, [(a, a + n, 1.0) for a, n in marks if a + n <= len("".join(parts))]),
    st.lists(st.sampled_from(PARTS), max_size=20),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=3),
)


def edit(method, doc: Doc) -> Doc | Drop:
    made = method.edit(doc, None, Rng((0,)))
    return made if isinstance(made, Drop) else made[0]


@pytest.mark.parametrize("method", EDITS, ids=repr)
@settings(max_examples=120, deadline=None)
@given(doc=docs)
def test_property_deterministic_and_spans_within_the_text(method, doc):
    before = (doc.text, list(doc.spans))
    made = edit(method, doc)
    assert made == edit(method, doc) and (doc.text, doc.spans) == before
    if isinstance(made, Drop):
        return
    assert made.id == doc.id and made.meta == doc.meta
    assert all(0 <= a < b <= len(made.text) for a, b, _ in made.spans)
    if made.text == doc.text:
        assert made is doc
    plain = edit(method, Doc("d", doc.text))
    assert plain.text == made.text  # spans do not change what happens


@pytest.mark.parametrize("method", EDITS, ids=repr)
@settings(max_examples=120, deadline=None)
@given(doc=docs)
def test_property_twice_is_once(method, doc):
    once = edit(method, doc)
    if not isinstance(once, Drop):
        assert edit(method, once).text == once.text


@pytest.mark.parametrize("method", [RepeatedLines(), Boilerplate(citations=False)], ids=repr)
@settings(max_examples=100, deadline=None)
@given(doc=docs)
def test_property_only_whole_lines_go(method, doc):
    made = edit(method, doc)
    if not isinstance(made, Drop):
        left = iter(doc.text.split("\n"))
        assert all(any(line == other for other in left) for line in made.text.removesuffix("\n").split("\n") if line)

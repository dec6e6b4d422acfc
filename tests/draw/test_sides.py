"""Texts side by side."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bloomery.draw import page
from bloomery.draw.sides import aligned, contamination

TEXTS = st.text(alphabet="ab ,.\nAB", max_size=60)


@given(TEXTS, TEXTS)
def test_pieces_are_the_texts_and_shared_words_are_as_many_on_both_sides(left: str, right: str) -> None:
    sides = aligned(left, right)
    assert tuple("".join(text for text, _ in side) for side in sides) == (left, right)
    shared = [[word for text, same in side if same for word in re.findall(r"\w+", text.lower())] for side in sides]
    assert shared[0] == shared[1]


def test_a_changed_word_stands_apart() -> None:
    left, right = aligned("The quick brown fox jumps.", "so: the QUICK red fox jumps!")
    assert [text for text, same in left if not same] == [" brown ", "."]
    assert [text for text, same in right if not same] == ["so: ", " red ", "!"]


def test_the_page_shows_both_sides_and_escapes_them() -> None:
    match = {
        "set": "exam", "item": "q1", "part": "question", "share": 1.0, "near": None, "corpus": "c", "document": "d", "path": "p<1>",
        "item_text": "a <b> c", "document_text": "a <b> d",
    }  # fmt: skip
    rules = {"words": 8, "share": 0.5, "near": 0.4, "common": 10}
    counts = {"items": 3, "looked_for": 2, "too_short": 1, "nothing_of_their_own": 0, "found": 1}
    summary = {"rules": rules, "sets": {"exam": counts}, "documents": 9, "bytes": 900, "leaking": 1, "matches": 1,
               "unread": {"malformed": 2}, "left_out": ["bits_per_byte makes its own"], "written": ""}  # fmt: skip
    html = page.render(page.CONTAMINATION, title="t", **contamination(summary, [match]))
    assert "p&lt;1&gt;" in html and "<b>a &lt;b</b>" in html and "2 malformed" in html and "bits_per_byte" in html
    assert "http" not in html.replace("http-equiv", "")

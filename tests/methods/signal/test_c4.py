from __future__ import annotations

import pytest

from bloomery.methods.signal.c4 import C4
from bloomery.seams import Doc

LINES = {
    "Here is a line. It has two sentences!": (1, 2, 0, 0),
    "It ends in nothing": (0, 0, 0, 0),
    "It ends in dots...": (0, 0, 0, 0),
    "Two words.": (0, 0, 0, 0),
    "Please enable JavaScript to see it.": (0, 0, 0, 0),
    "We are told it uses Cookies here.": (0, 0, 0, 0),
    "A fact that is known.[12]": (1, 1, 0, 0),
    "A fact that is known. [12]": (0, 0, 0, 0),
    "Lorem Ipsum is what they print.": (1, 1, 1, 0),
    "if (x) { return it; }.": (1, 1, 0, 1),
    "So it goes.  And so? On it goes.": (1, 3, 0, 0),
    "a " + "x" * 1001 + " is here.": (0, 0, 0, 0),
    "日本語 の 文です。 これは「文」。.": (1, 2, 0, 0),
}


@pytest.mark.parametrize("line", LINES)
def test_exact_by_hand(line):
    found = C4().columns([Doc("", line)], None)
    assert found["lines"][0] == 1
    assert tuple(int(found[name][0]) for name in ("kept_lines", "sentences", "lorem_ipsum", "curly_bracket")) == LINES[line]


def test_property_lines_add_up():
    whole = C4().columns([Doc("", "\r\n".join(LINES))], None)
    for k, name in enumerate(("kept_lines", "sentences", "lorem_ipsum", "curly_bracket")):
        assert whole[name][0] == sum(counts[k] for counts in LINES.values())
    assert whole["lines"][0] == len(LINES)


def test_wrong_phrases_are_refused():
    with pytest.raises(ValueError, match="phrases"):
        C4(phrases=("Cookies",))

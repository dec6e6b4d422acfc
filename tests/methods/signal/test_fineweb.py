from __future__ import annotations

import pytest

from bloomery.methods.signal.fineweb import Fineweb
from bloomery.seams import Doc


def measure(text: str, **knobs) -> dict[str, float]:
    return {name: float(column[0]) for name, column in Fineweb(**knobs).columns([Doc("", text)], None).items()}


def test_exact_by_hand():
    text = "A first line.\nwords and words and words and words\n\n \nA first line.\nend。\n"
    found = measure(text)
    assert found["lines"] == 4 and found["terminal_lines"] == 3 / 4 and found["short_lines"] == 3 / 4
    assert found["duplicate_characters"] == pytest.approx(13 / (len(text) - text.count("\n")))
    assert found["newlines_per_word"] == pytest.approx(6 / (4 + 7 + 4 + 2))
    assert measure(text, short=12)["short_lines"] == 1 / 4


def test_property_space_behind_the_stop_hides_it():
    assert measure("One.\nTwo.")["terminal_lines"] == 1 and measure("One. \nTwo.")["terminal_lines"] == 0.5
    assert measure("") == dict.fromkeys(("lines", "terminal_lines", "short_lines", "duplicate_characters", "newlines_per_word"), 0.0)

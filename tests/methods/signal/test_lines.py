from __future__ import annotations

from bloomery.methods.signal.lines import Lines
from bloomery.seams import Doc


def one(text: str) -> dict[str, float]:
    return {name: column[0] for name, column in Lines().columns([Doc("a", text)], None).items()}


def test_exact():
    assert one("ab\n\n  \nabcd\n") == {"count": 4, "mean_length": 2.0, "longest": 4, "empty": 0.5}
    assert one("") == {"count": 0, "mean_length": 0, "longest": 0, "empty": 0}
    assert one("日本語") == {"count": 1, "mean_length": 3, "longest": 3, "empty": 0}


def test_property_a_last_line_end_changes_nothing():
    for text in ("a", "a\nbb", "\n", " \nx"):
        assert text == "\n" or one(text) == one(text + "\n")
    assert one("a\vb\fc\x85d")["count"] == 1  # only line feeds end lines

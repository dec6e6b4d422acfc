from __future__ import annotations

import unicodedata

from bloomery.methods.edit.normalize import Normalize
from bloomery.seams import Doc, Rng

TEXT = "\ufeffa  \r\nb\t\rcafe\u0301 \n\n  x = 1\u00a0\n end "


def edit(text: str, **knobs: bool) -> str:
    (made,) = Normalize(**knobs).edit(Doc("a", text, {"path": "p"}), None, Rng((0,)))
    assert made.id == "a" and made.meta == {"path": "p"}
    return made.text


def test_exact():
    assert edit(TEXT) == "a\nb\ncafé\n\n  x = 1\u00a0\n end"
    off = {"newlines": False, "compose": False, "mark": False, "trailing": False}
    assert edit(TEXT, **off) == TEXT
    assert edit(TEXT, **{**off, "newlines": True}) == TEXT.replace("\r\n", "\n").replace("\r", "\n")
    assert edit(TEXT, **{**off, "compose": True}) == unicodedata.normalize("NFC", TEXT)
    assert edit(TEXT, **{**off, "mark": True}) == TEXT[1:]


def test_property_twice_is_once():
    for text in (TEXT, "", "plain", "\r\r\n \n", "\ufeff\ufeffx"):
        once = edit(text)
        assert edit(once) == once and not once.startswith("\ufeff")
        marked = Normalize().edit(Doc("a", text, spans=[(0, len(text), 1.0)]), None, Rng((0,)))
        assert [one.text for one in marked] == [once], "spans change nothing of the text"
    doc = Doc("a", "clean\n", spans=[(0, 2, 1.0)])
    assert Normalize().edit(doc, None, Rng((0,))) == [doc]

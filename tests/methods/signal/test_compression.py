from __future__ import annotations

import zlib

import pytest

from bloomery.methods.signal.compression import Compression
from bloomery.seams import Doc


def ratio(text: str, **knobs) -> float:
    return Compression(**knobs).columns([Doc("", text)], None)["ratio"][0]


def test_exact():
    text = "Ein Text, und noch ein Text.\n" * 9
    assert ratio(text) == len(zlib.compress(text.encode(), 6)) / len(text) and ratio("") == 0
    with pytest.raises(ValueError, match="level"):
        Compression(level=0)


def test_property_repeating_a_text_lowers_it():
    text = "".join(chr(97 + (k * k * 7919) % 26) for k in range(500))
    assert ratio(text) > ratio(text * 2) > ratio(text * 8)

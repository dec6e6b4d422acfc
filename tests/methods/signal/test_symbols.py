from __future__ import annotations

import random

import pytest

from bloomery.methods.signal.symbols import Symbols
from bloomery.seams import Doc

TEXTS = ["", "abc", "a1 !?\n", "naïve ½ ² ٣ 日本語 ‐ \u3000 \u200b👩", "=" * 50 + " x", "\x00\x1f\x7f"]


def reference(text: str) -> tuple[float, float, float]:
    size = max(1, len(text))
    alphabetic, digit = sum(c.isalpha() for c in text), sum(c.isdigit() for c in text)
    return alphabetic / size, digit / size, (len(text) - alphabetic - digit - sum(c.isspace() for c in text)) / size


def test_exact_for_all_of_unicode():
    draw = random.Random(0)
    wild = ["".join(chr(draw.choice([draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])) for _ in range(3000)) for _ in range(5)]
    found = Symbols().columns([Doc("", text) for text in TEXTS + wild], None)
    for k, text in enumerate(TEXTS + wild):
        assert (found["alphabetic"][k], found["digit"][k], found["symbol"][k]) == pytest.approx(reference(text))


def test_property_shares_never_exceed_one():
    found = Symbols().columns([Doc("", text) for text in TEXTS], None)
    assert all(0 <= a + d + s <= 1 for a, d, s in zip(*found.values(), strict=True))
    assert all(len(column) == 0 for column in Symbols().columns([], None).values())

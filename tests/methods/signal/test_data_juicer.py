from __future__ import annotations

import math
from collections import Counter

import pytest

from bloomery.methods.signal.data_juicer import DataJuicer
from bloomery.seams import Doc

CASES = [
    "",
    "a",
    "Hello, hello world! 123\r\nsecond line\n" * 3,
    "abcdefghij" * 4,
    "Ünï cödé — “Wörter” " * 12,
    "x y z " * 30,
    "日本語 " * 20,
]


def reference(text: str) -> tuple[float, ...]:
    grams = Counter(text[i : i + 10] for i in range(len(text) - 9))
    counts = sorted(grams.values(), reverse=True)
    top = min(int(math.sqrt(len(counts))), sum(count > 1 for count in counts))
    lines = text.splitlines()
    return (
        len(text),
        sum(map(str.isalnum, text)) / max(1, len(text)),
        len(text) / len(lines) if lines else 0.0,
        max(map(len, lines), default=0),
        sum(counts[:top]) / max(1, sum(counts)),
    )


def test_exact_against_plain_python():
    found = DataJuicer().columns([Doc("", text) for text in CASES], None)
    names = ("characters", "alphanumeric", "average_line", "longest_line", "character_repetition")
    for k, text in enumerate(CASES):
        assert tuple(float(found[name][k]) for name in names) == pytest.approx(reference(text)), text[:20]


def test_words_and_special_characters_by_hand():
    found = DataJuicer(word_gram=2).columns([Doc("", "«One», one TWO!\tone 123 ... two\n")], None)
    assert found["words"][0] == 5  # one one two one two
    assert found["word_repetition"][0] == 2 / 4  # one two, twice, of four
    assert found["special"][0] == pytest.approx(17 / 32)


def test_property_a_batch_measures_each_document_as_if_it_were_alone():
    together = DataJuicer().columns([Doc("", text) for text in CASES], None)
    for k, text in enumerate(CASES):
        alone = DataJuicer().columns([Doc("", text)], None)
        assert all(together[name][k] == alone[name][0] for name in together)

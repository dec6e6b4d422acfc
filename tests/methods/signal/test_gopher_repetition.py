from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from bloomery.methods.signal.gopher_repetition import NAMES, GopherRepetition
from bloomery.seams import Doc


def reference(text: str) -> list[float]:
    """The definitions over texts whose words stand between single spaces or line feeds."""
    size = max(1, len(text))
    found = []
    for parts in (re.split("\n{2,}", text.strip()), re.split("\n+", text)):
        again = [part for k, part in enumerate(parts) if part in parts[:k]]
        found += [len(again) / len(parts), sum(map(len, again)) / size]
    words = text.split()
    for n in range(2, 11):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n <= 4:
            top, count = Counter(grams).most_common(1)[0] if grams else ((), 0)
            found.append(len(" ".join(top)) * count / size)
        else:
            seen, covered, i = set(), 0, 0
            while i < len(grams):
                covered += sum(map(len, grams[i])) if grams[i] in seen else 0
                step = n if grams[i] in seen else 1
                seen.add(grams[i])
                i += step
            found.append(covered / size)
    return found


def texts() -> list[str]:
    draw = random.Random(3)
    made = [
        "".join(draw.choice(words) + draw.choice([" ", " ", "\n", "\n\n", "\n\n\n"]) for _ in range(draw.randrange(300)))
        for words in (["aa", "bbb", "cccc"], [f"word{k}" for k in range(10)], ["日本", "naïve", "x"])
        for words in [[word.replace("word", "w" * (1 + len(word))).rstrip("0123456789") + chr(97 + k) for k, word in enumerate(words)]]
        for _ in range(15)
    ]
    return ["a", "\n", "\n\na\n\na\n\n", "a b a b", "x y z\nx y z\nx y z", *made]


def test_exact_against_plain_python():
    cases = texts()
    found = GopherRepetition().columns([Doc("", text) for text in cases], None)
    for k, text in enumerate(cases):
        assert [found[name][k] for name in NAMES] == pytest.approx(reference(text)), repr(text[:80])


def test_property_a_batch_measures_each_document_as_if_it_were_alone():
    cases = [*texts(), ""]
    together = GopherRepetition().columns([Doc("", text) for text in cases], None)
    for k, text in enumerate(cases):
        alone = GopherRepetition().columns([Doc("", text)], None)
        assert all(together[name][k] == alone[name][0] for name in NAMES)

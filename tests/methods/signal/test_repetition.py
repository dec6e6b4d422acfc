from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from bloomery.methods.signal.repetition import NAMES, Repetition
from bloomery.seams import Doc


def reference(text: str) -> dict[str, float]:
    """The definitions, word by word, in plain Python."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    counts = Counter(lines)
    result = {
        "duplicate_lines": sum(n - 1 for n in counts.values()) / max(1, len(lines)),
        "duplicate_line_characters": sum((n - 1) * len(line) for line, n in counts.items()) / max(1, sum(map(len, lines))),
    }
    words = text.split()
    total = max(1, sum(map(len, words)))
    for n in range(2, 11):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n <= 4:
            times = Counter(grams)
            best = max(((c, sum(map(len, gram))) for gram, c in times.items()), default=(0, 0))
            result[f"top_{n}gram"] = min(1.0, best[0] * best[1] / total) if best[0] > 1 else 0.0
        else:
            seen, covered = set(), set()
            for i, gram in enumerate(grams):
                covered.update(range(i, i + n) if gram in seen else ())
                seen.add(gram)
            result[f"duplicate_{n}gram"] = sum(len(words[i]) for i in covered) / total
    return result


def texts() -> list[str]:
    draw = random.Random(1)
    vocabularies = [["a", "bb", "ccc"], ["日本", "naïve", "x", "👩‍👩‍👧", "é"], [f"w{i}" for i in range(40)]]
    wild = [
        "".join(draw.choice(v) + draw.choice([" ", "  ", "\n", "\t", "\u3000", "\n\n"]) for _ in range(draw.randrange(400)))
        for v in vocabularies
        for _ in range(12)
    ]
    return ["", "word", "a\na\na", " a \n  a\n\nb", "\x85a\x85b\u2028c", "one two three four five " * 30, *wild]


def test_exact_against_plain_python():
    cases = texts()
    found = Repetition().columns([Doc(str(i), text) for i, text in enumerate(cases)], None)
    for k, text in enumerate(cases):
        assert {name: found[name][k] for name in NAMES} == pytest.approx(reference(text)), repr(text[:60])


def test_property_repeating_a_text_raises_every_share():
    plain = " ".join(f"word{i}" for i in range(50)) + "\n"
    found = Repetition().columns([Doc("", plain), Doc("", plain * 5)], None)
    for name in NAMES:
        assert found[name][0] == 0 and 0 < found[name][1] <= 1, name
    assert found["duplicate_lines"][1] == pytest.approx(0.8)
    assert found["duplicate_10gram"][1] == pytest.approx(0.8)


def test_a_batch_measures_each_document_as_if_it_were_alone():
    cases = texts()
    together = Repetition().columns([Doc("", text) for text in cases], None)
    alone = [Repetition().columns([Doc("", text)], None) for text in cases]
    for name in NAMES:
        assert np.array_equal(together[name], [one[name][0] for one in alone])

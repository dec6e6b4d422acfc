from __future__ import annotations

import math

import pytest

from bloomery.methods.signal.redpajama import NAMES, Redpajama
from bloomery.seams import Doc

TEXT = "The CAT sat. The cat sat!\n• Lorem ipsum {x} # …\njavascript 123\n"


def measure(text: str) -> dict[str, float]:
    return {name: column[0] for name, column in Redpajama().columns([Doc("", text)], None).items()}


def test_exact_by_hand():
    found = measure(TEXT)
    # words: the cat sat the cat sat • lorem ipsum x … javascript 123
    assert found["words"] == 13 and found["unique_words"] == 10 / 13
    assert found["entropy"] == pytest.approx(-sum(n / 13 * math.log(n / 13) for n in (2, 2, 2, 1, 1, 1, 1, 1, 1, 1)))
    # pieces: The CAT sat . The cat sat ! • Lorem ipsum { x } # … javascript 123
    assert found["symbols"] == 2 / 18 and found["capital_words"] == 1 / 18 and found["no_letters"] == pytest.approx(8 / 18)
    assert found["terminal_lines"] == 1 / 3 and found["ellipsis_lines"] == 1 / 3 and found["bullet_lines"] == 1 / 3
    assert found["javascript_lines"] == 1 / 3 and found["short_lines"] == 1 / 3 and found["curly_bracket"] == 2 / len(TEXT)
    letters = 3 * 6 + 1 + 5 + 5 + 1 + 1 + 10 + 3
    assert found["top_2gram"] == pytest.approx(2 * 6 / letters) and found["top_3gram"] == pytest.approx(2 * 9 / letters)
    assert found["duplicate_5gram"] == 0


def test_property_repeated_text_is_covered():
    found = measure("one two three four five six seven eight nine ten eleven. " * 3)
    assert all(found[f"duplicate_{n}gram"] == 1 for n in range(5, 11)) and found["sentences"] == 3
    assert set(measure("")) == set(NAMES) and not any(measure("").values())

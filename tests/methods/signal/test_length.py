from __future__ import annotations

from bloomery.methods.signal.length import Length
from bloomery.seams import Doc

TEXTS = ["", "one", "two words", "  spread\tout\n\nover lines ", "naïve café 日本語\u3000文", "👩‍👩‍👧"]


def test_exact_against_plain_python():
    found = Length().columns([Doc(str(i), text) for i, text in enumerate(TEXTS)], None)
    assert found["characters"] == [len(text) for text in TEXTS]
    assert found["bytes"] == [len(text.encode()) for text in TEXTS]
    assert found["words"] == [0, 1, 2, 4, 4, 1]
    assert found["mean_word_length"][2] == 4.0
    assert found["mean_word_length"][0] == 0.0


def test_property_concatenation_adds_up():
    parts, whole = Length().columns([Doc(t, t) for t in TEXTS], None), Length().columns([Doc("", "\n".join(TEXTS))], None)
    assert whole["words"][0] == sum(parts["words"])
    assert whole["characters"][0] == sum(parts["characters"]) + len(TEXTS) - 1
    assert all(list(column) == [] for column in Length().columns([], None).values())

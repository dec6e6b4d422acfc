from __future__ import annotations

import pytest

from bloomery.methods.signal.gopher_quality import GopherQuality
from bloomery.seams import Doc

TEXT = "The cat and the dog ... have 2 hats.\n- one # two\n• three…\r\n   \nfour ***\n"


def measure(*texts: str, **knobs) -> dict[str, list[float]]:
    return {name: list(map(float, column)) for name, column in GopherQuality(**knobs).columns([Doc("", t) for t in texts], None).items()}


def test_exact_by_hand():
    # The cat and the dog ... have 2 hats . - one # two • three … four * * *: of 21 words, 13 are more than marks: • is none of them
    found = {name: column[0] for name, column in measure(TEXT).items()}
    assert found["words"] == 13 and found["mean_word_length"] == pytest.approx(40 / 13)
    assert found["hashes"] == pytest.approx(1 / 21) and found["ellipses"] == pytest.approx(2 / 21)
    assert found["bullet_lines"] == pytest.approx(2 / 5) and found["ellipsis_lines"] == pytest.approx(1 / 5)
    assert found["alphabetic_words"] == pytest.approx(11 / 21)
    assert found["stop_words"] == 3  # and, the, have; The is another word


def test_property_a_text_twice_has_twice_the_words_and_the_same_shares():
    once, twice = ({name: column[k] for name, column in measure(TEXT, TEXT * 2).items()} for k in (0, 1))
    assert twice.pop("words") == 2 * once.pop("words")
    assert twice == pytest.approx(once)


def test_empty_text_and_wrong_knobs():
    assert set(map(tuple, measure("", " \n").values())) == {(0.0, 0.0), (0.0, 0.0)}
    with pytest.raises(ValueError, match="stop_words"):
        GopherQuality(stop_words=("a" * 12,))

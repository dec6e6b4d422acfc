"""Missing words."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.cloze import Cloze
from bloomery.seams import Episode, Rng, Source

RNG = Rng((0, "task"))


class Bytes:
    def encode(self, text):
        return list(text.encode())


ROWS = [{"context": "the sky is ", "ending": ["blue", "light grey"]}]


@pytest.mark.parametrize(
    ("said", "score"),
    [(" blue", 1), (" Blue.", 1), ("blue and", 1), (" bluebell", 0), (" light  grey sea", 1), (" light", 0), ("", 0), (" grey", 0)],
)
def test_the_reply_begins_with_the_missing_words(said, score):
    item = next(Cloze().items(Source(None, Bytes(), questions={"q": ROWS}), RNG))
    assert (item.prompt, item.limit) == ("the sky is", len(" light grey") + 2)
    assert Cloze().grade(item, Episode("a", item.id, said), None).score == score


def test_knobs_out_of_range_are_refused():
    with pytest.raises(ValueError, match="count"):
        Cloze(count=-1)


def test_an_ending_over_lines_is_one_answer_and_accents_are_written_in_two_ways():
    rows = [{"context": "x", "ending": "light\ngrey"}, {"context": "x", "ending": "caf\u00e9"}]
    lines, accent = Cloze().items(Source(None, Bytes(), questions={"q": rows}), RNG)
    scores = [Cloze().grade(lines, Episode("a", "a", said), None).score for said in (" light", " grey", " light grey")]
    assert scores == [0, 0, 1] and Cloze().grade(accent, Episode("a", "a", " cafe\u0301"), None).score == 1
    with pytest.raises(BadInput, match="q:0: ending holds no word"):
        list(Cloze().items(Source(None, Bytes(), questions={"q": [{"context": "x", "ending": " "}]}), RNG))

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from bloomery.data.codes import pack
from bloomery.data.english import kinds, own_words
from bloomery.data.words import END, room, split, tables, tokens, word_hash

# what spaCy 3.8's blank English tokenizer gives, white space left out
FROZEN = {
    "def f(x): return (self.foo(bar), 'it''s') :) http://a.b.com/x?y don't 10km 5$": (
        "def|f(x|):|return|(|self.foo(bar|)|,|'|it|'|'s|'|)|:)|http://a.b.com/x?y|do|n't|10|km|5|$"
    ),
    "Mr. Smith's e.g. foo...bar a--b x=-1 :((": "Mr.|Smith|'s|e.g.|foo|...|bar|a|--|b|x=-1|:((",
    "日本語、テスト。naïve “quoted” U.S. I'd've": "日本語、テスト。naïve|“|quoted|”|U.S.|I|'d|'ve",
}


def words(text: str) -> list[str]:
    (group,) = split([text])
    return [text[span >> 32 : span & END] for span in group.spans.tolist()]


@pytest.mark.parametrize("text", FROZEN)
def test_frozen_outputs_of_the_peer(text):
    assert words(text) == FROZEN[text].split("|")


def test_words_with_a_rule_are_split_by_it():
    for word, pieces in own_words().items():
        assert words(word) == list(pieces), word


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*"aB9 \n.,:;()'-/@\"é日…°", "don't", "http://", "x.org", ":)", "10km", "  "]), max_size=60).map("".join))
def test_property_words_are_the_text_without_white_space(text):
    if text:
        assert "".join(words(text)) == "".join(text.split())


def test_a_batch_is_split_as_each_text_alone_and_remembered_chunks_change_nothing():
    texts = [*FROZEN, "a:) b:) (a:)", "x " * 500, "f(x): f(x): f(x):", ""]
    for group in split(texts):
        for k, row in enumerate(group.rows):
            spans = group.spans[group.first[k] : group.first[k + 1]] - (int(group.offsets[k]) << 32 | int(group.offsets[k]))
            assert [texts[row][span >> 32 : span & END] for span in spans.tolist()] == (words(texts[row]) if texts[row] else [])


def test_hashes_are_those_of_the_words():
    (group,) = split(["cats and naïve dogs"])
    assert group.hashes.tolist() == [word_hash(word) for word in ("cats", "and", "naïve", "dogs")]


def test_hostile_text_takes_linear_work():
    text = "(" * 20_000 + ":(" * 20_000 + "a@" * 20_000 + "." * 20_000 + "a." * 20_000
    ((_, codes, offsets, _),) = pack([text])
    n = tokens(codes, 0, int(offsets[-1]), kinds(128), *tables(), room(len(text)))
    assert 0 < n <= len(text)
    assert np.all(kinds(128) == kinds()[:128])

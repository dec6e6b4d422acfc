from __future__ import annotations

from bloomery.data.trained_spans import in_tokens, listed, ranges, still
from bloomery.seams import Doc


def test_where_nothing_is_left_to_train_on_all_of_it_is_not():
    before = Doc("d", "web: text", spans=[(5, 9, 1.0)])
    assert still(before, Doc("d", "web: ")) == Doc("d", "web: ", spans=[(0, 5, 0.0)])
    kept = Doc("d", "web: tex", spans=[(5, 8, 1.0)])
    assert still(before, kept) is kept and still(Doc("d", "a"), kept) is kept
    assert still(Doc("d", "a"), Doc("d", "b")) == Doc("d", "b") and still(before, Doc("d:1", "a pair")) == Doc("d:1", "a pair")


def test_spans_in_tokens():
    places = [(0, 3), (3, 4), (4, 4), (4, 9)]  # after the begin token; the third stands for nothing
    assert in_tokens([(3, 9, 1.0)], places) == [(2, 6, 1.0)], "the end token comes with the end of the text"
    assert in_tokens([(0, 3, 0.5), (8, 9, 2.0)], places) == [(1, 2, 0.5), (4, 6, 2.0)]
    assert in_tokens([(1, 4, 1.0)], places) == [(1, 3, 1.0)], "a token that holds a part of a span is in it"
    split = [(0, 1), (1, 2), (1, 2), (2, 3)]  # two tokens for the bytes of one character
    assert in_tokens([(1, 2, 1.0)], split) == [(2, 4, 1.0)]
    assert in_tokens([(0, 0, 1.0)], []) == [(0, 2, 1.0)]


def test_written_and_read_again():
    spans = [[(0, 3, 1.0), (5, 9, 0.25)], [], [(2, 4, 0.0)]]
    assert [ranges(one) for one in listed(spans).to_pylist()] == spans

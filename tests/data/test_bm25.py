"""BM25."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("bm25s")

from bloomery.core.errors import BadInput
from bloomery.data.bm25 import Bm25, words


def test_exact_scores_by_hand():
    texts = ["red house", "red red barn on a hill", "blue sea"]
    sizes = [len(words(text)) for text in texts]

    def score(word: str, i: int) -> float:
        holding = sum(word in words(text) for text in texts)
        often = words(texts[i]).count(word)
        norm = 1.5 * (1 - 0.75 + 0.75 * sizes[i] / (sum(sizes) / 3))
        return math.log(1 + (3 - holding + 0.5) / (holding + 0.5)) * often / (often + norm)

    index = Bm25(texts, "x")
    for query in ("red", "red barn", "house hill red"):
        wanted = sorted(range(3), key=lambda i: -sum(score(word, i) for word in words(query)))
        assert index.best(query, 3) == [i for i in wanted if i != 2]


def test_equals_keep_their_order_and_what_shares_no_word_is_left_out():
    index = Bm25(["a b", "a b", "c"], "x")
    assert index.best("B!", 5) == [0, 1] and index.best("b", 1) == [0] and index.best("z", 5) == [] and index.best("", 5) == []
    with pytest.raises(BadInput, match="x: there is no document"):
        Bm25(["", "?"], "x")

"""Which weights stay: shares of rows and matrices, patterns, and ties."""

from __future__ import annotations

import pytest
import torch

from bloomery.num.masks import highest, pattern


def test_shares_of_rows_and_of_the_matrix():
    score = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    assert highest(score, 0.5).tolist() == [[False, False, True, True]] * 2
    assert highest(score, 0.5, over="matrix").tolist() == [[False] * 4, [True] * 4]
    assert highest(torch.ones(1, 4), 0.5).tolist() == [[True, True, False, False]], "of equal scores the first stays"


def test_patterns_and_their_narrower_last_group():
    score = torch.tensor([[4.0, 1, 3, 2, 9, 8, 7]])
    assert highest(score, 0.9, (2, 4)).tolist() == [[True, False, True, False, True, True, False]]
    assert pattern("2:4") == (2, 4) and pattern("") is None
    for text in ("4:4", "0:2", "2", "a:b", "2:4:8"):
        with pytest.raises(ValueError, match="pattern must"):
            pattern(text)

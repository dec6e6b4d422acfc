"""The unbiased estimate of pass@k."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.num.pass_at import counted, demand, pass_at, tries
from bloomery.seams import Episode, Grade, Item, Rng

RNG = Rng((0, "pass"))


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_exact_it_is_the_share_of_draws_that_hold_a_right_one(case):
    n, right, k = case
    draws = list(combinations(range(n), k))
    assert pass_at(n, right, k) == pytest.approx(float(Fraction(sum(min(draw) < right for draw in draws), len(draws))))
    assert pass_at(n, right, 1) == pytest.approx(right / n)


def test_what_cannot_be_drawn_is_refused():
    for case in ((2, 1, 3), (2, 3, 1), (2, 1, 0)):
        with pytest.raises(ValueError, match="k must lie"):
            pass_at(*case)
    with pytest.raises(ValueError, match="k must be at least 1"):
        demand(2, 3)


def rows(scores: dict[str, list[float]], samples: int) -> list:
    return [
        (Item(key, "", "generate", group=name), Episode(key, key), Grade(score))
        for name, found in scores.items()
        for key, score in zip(tries(name, samples), found, strict=True)
    ]


def test_exact_by_hand_over_questions():
    found = counted(rows({"q:a/0": [1, 0, 0, 0], "q:b/1": [0, 0, 0, 0], "q:c/2": [1, 1, 1, 1]}, 4), "solved", 4, 2, RNG)
    assert found["solved"] == pytest.approx((0.25 + 0 + 1) / 3) and found["solved.n"] == 3
    assert found["solved_in_k"] == pytest.approx((0.5 + 0 + 1) / 3) and found["solved_in_k.low"] <= found["solved_in_k"]
    assert set(counted(rows({"q:a/0": [1], "q:b": [0]}, 1), "solved", 1, 1, RNG)) == {"solved", "solved.low", "solved.high", "solved.n"}


def test_a_question_with_too_few_samples_says_nothing_of_pass_at_k():
    few = rows({"a": [1, 1, 0], "b": [0, 0, 0]}, 3)[1:4]
    found = counted(few, "solved", 3, 2, RNG)
    assert found["solved.n"] == 2 and found["solved_in_k.n"] == 1 and found["solved_in_k"] == 1.0
    assert counted([], "solved", 3, 2, RNG) == {}


def test_partly_right_is_not_solved():
    assert counted(rows({"a": [0.9]}, 1), "solved", 1, 1, RNG)["solved"] == 0.0

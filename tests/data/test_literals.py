"""Literals read and compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.data.literals import alike, is_kind, literal, of_kind

ATOMS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4), st.none())
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3), max_leaves=8
)


@given(VALUES)
def test_a_value_is_read_back_from_its_text_and_is_like_itself(value):
    known, again = literal(repr(value))
    assert known and alike(again, value)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [(1, True), (1, 1.0), ([1], (1,)), ("1", 1), ([1, 2], [2, 1]), ({1: 2}, {1: 3}), ([1], [1, 1]), (None, 0), (1.0, 1.00001)],
)
def test_kinds_and_values_are_told_apart(said, wanted):
    assert not alike(said, wanted) and not alike(wanted, said)
    assert alike(0.1 + 0.2, 0.3) and alike([{"a": (0.1 + 0.2,)}], [{"a": (0.3,)}])


@pytest.mark.parametrize("text", ["sol()", "1 +", "__import__('os')", "[" * 9999, "", None, "nan", "x"])
def test_what_is_no_literal_is_nothing(text):
    assert literal(text) == (False, None)


def test_kinds_of_answers():
    assert is_kind("int") and is_kind("List[List[str]]")
    assert not any(map(is_kind, ("List[int", "Set[int]", "List", "List[]", "int]", "object")))
    assert of_kind([[1], []], "List[List[int]]") and of_kind(1.0, "float") and of_kind(True, "bool")
    assert not of_kind(True, "int") and not of_kind(1, "float") and not of_kind((1,), "List[int]") and not of_kind([1, "a"], "List[int]")

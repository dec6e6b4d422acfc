"""Exact signatures."""

from __future__ import annotations

import pytest

from bloomery.methods.task.signature_exact import SignatureExact, signature
from bloomery.seams import Episode, Rng

RNG = Rng((0, "task"))


@pytest.mark.parametrize(
    ("said", "score", "name"),
    [
        ("def f2(x):", 1, 1), ("  def  f2(x):  \n    return", 1, 1), ("\n\ndef f2(x):", 1, 1), ("def f2(y):", 0, 1),
        ("def f2(x, ):", 0, 1), ("def f3(x):", 0, 0), ("", 0, 0),
    ],
)  # fmt: skip
def test_the_first_line_must_be_the_signature(chats, said, score, name):
    task = SignatureExact(limit=32)
    item = next(item for item in task.items(chats(), RNG) if item.id == "c2")
    grade = task.grade(item, Episode("a", item.id, said), None)
    assert (grade.score, grade.parts["name"]) == (score, name)


def test_only_signatures_that_fit_are_asked(chats):
    assert {item.kind for item in SignatureExact().items(chats(), RNG)} == {"signature"}
    assert not list(SignatureExact(limit=5).items(chats(), RNG))
    assert len(list(SignatureExact(count=3).items(chats(), RNG))) == 3


def test_spaces_are_normalised():
    assert signature("\n  def  f( a ):\t\nrest") == "def f( a ):"


def test_knobs_out_of_range_are_refused():
    with pytest.raises(ValueError, match="limit at least 4"):
        SignatureExact(limit=3)

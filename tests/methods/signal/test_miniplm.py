from __future__ import annotations

import math

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal.miniplm import Miniplm
from bloomery.seams import Doc


class Models:
    """A teacher that gives every character probability 1/4, and a reference that gives 1/2 to letters and 1/64 to all else."""

    def score(self, pairs, role):
        assert all(context == "" for context, _ in pairs)
        odds = {"teacher": lambda c: 0.25, "reference": lambda c: 0.5 if c.isalpha() else 1 / 64}[role]
        return [tuple(math.log(odds(c)) for c in text) for _, text in pairs]


def test_exact_by_hand():
    found = Miniplm().columns([Doc("a", "ab1"), Doc("b", "é"), Doc("c", "")], Models())
    assert found["teacher"] == pytest.approx([math.log(0.25), math.log(0.25) / 2, 0])  # é has two bytes
    assert found["reference"] == pytest.approx([(2 * math.log(0.5) + math.log(1 / 64)) / 3, math.log(0.5) / 2, 0])
    assert found["gain"] == pytest.approx([a - b for a, b in zip(found["teacher"], found["reference"], strict=True)])


def test_property_what_only_the_teacher_knows_is_ahead_of_what_both_know():
    hard, easy = Doc("hard", "1234567890"), Doc("easy", "abcdefghij")
    assert Miniplm().columns([hard], Models())["gain"][0] > 0 > Miniplm().columns([easy], Models())["gain"][0]
    twice = Doc("twice", hard.text * 2)  # a mean: length does not count
    assert Miniplm().columns([twice, hard], Models())["gain"] == pytest.approx([Miniplm().columns([hard], Models())["gain"][0]] * 2)


def test_names_are_known_without_documents_and_models_are_asked_for():
    assert Miniplm().columns([], None) == {"gain": [], "teacher": [], "reference": []}
    with pytest.raises(BadInput, match="teacher and reference"):
        Miniplm().columns([Doc("a", "x")], None)

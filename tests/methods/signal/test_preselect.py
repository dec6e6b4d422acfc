from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal.preselect import Preselect, strength
from bloomery.seams import Doc

SKILL = {"worst": 1, "middle": 2, "best": 3}


class Models:
    """Nats a character: of letters the fewer the better the model is, of digits the more, of all else the same."""

    def __init__(self):
        self.asked = 0

    def score(self, pairs, role):
        self.asked += len(pairs)
        skill = SKILL[role]
        return [tuple(-float(4 - skill if c.isalpha() else skill if c.isdigit() else 1) for c in text) for _, text in pairs]


def test_exact_by_hand():
    docs = [Doc("a", "abc"), Doc("b", "123"), Doc("c", "..."), Doc("d", "a1"), Doc("e", "")]
    assert Preselect().columns(docs, Models()) == {"strength": [1.0, 0.0, 0.5, 0.5, 0.5]}
    assert strength([3, 1, 2]) == pytest.approx(2 / 3) and strength([1, 1]) == 0.5
    assert Preselect(models=("best", "worst")).columns(docs[:2], Models()) == {"strength": [0.0, 1.0]}


def test_property_the_sample_is_of_documents_not_of_batches():
    docs = [Doc(f"d{i}", "abc" if i % 3 else "123") for i in range(400)]
    models = Models()
    found = np.array(Preselect(sample=0.3).columns(docs, models)["strength"])
    known = np.isfinite(found)
    assert 80 < known.sum() < 160 and models.asked == 3 * known.sum()
    whole = np.array(Preselect().columns(docs, Models())["strength"])
    assert np.array_equal(found[known], whole[known]) and np.isfinite(whole).all()
    parts = [Preselect(sample=0.3).columns(docs[k : k + 7], Models())["strength"] for k in range(0, 400, 7)]
    assert np.array_equal(np.concatenate(parts), found, equal_nan=True)
    assert math.isnan(found[~known][0])


def test_names_are_known_without_documents_and_models_are_asked_for():
    assert Preselect().columns([], None) == {"strength": []}
    assert Preselect(models=("a", "b")).needs == ("score:a", "score:b")
    with pytest.raises(BadInput, match="worst, middle, best"):
        Preselect().columns([Doc("a", "x")], None)
    for knobs in ({"models": ("a",)}, {"models": ("a", "a")}, {"sample": 0}, {"sample": 2}):
        with pytest.raises(ValueError, match="must"):
            Preselect(**knobs)

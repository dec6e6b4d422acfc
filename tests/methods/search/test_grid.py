"""Grid search: all combinations once, and the same ones again wherever it was cut."""

from __future__ import annotations

import pytest

from bloomery.core import catalog
from bloomery.methods.search.grid import Grid
from bloomery.seams import Rng

RNG = Rng((3, "search"))


def test_every_combination_once_in_the_order_of_the_lists() -> None:
    method = catalog.build_method("search", {"grid": {"space": {"layers": [6, 4], "bits": [8, 4, 3]}}})
    whole = method.propose([], RNG)
    assert whole[0] == {"layers": 6, "bits": 8} and whole[1] == {"layers": 6, "bits": 4} and whole[-1] == {"layers": 4, "bits": 3}
    assert len(whole) == len({tuple(one.items()) for one in whole}) == 6
    for done in range(7):
        assert method.propose([(one, {}) for one in whole[:done]], RNG.child("other")) == whole[done:]


def test_a_range_is_no_list_of_choices() -> None:
    for wrong in ({"low": 1, "high": 2}, [], 4):
        with pytest.raises(ValueError, match="bits: a list of choices"):
            Grid({"bits": wrong})

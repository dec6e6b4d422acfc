"""Random search: its own trials again, whatever has been done."""

from __future__ import annotations

import pytest

from bloomery.core import catalog
from bloomery.methods.search.random import Random
from bloomery.seams import Rng

RNG = Rng((3, "search"))


def test_a_search_cut_anywhere_goes_on_with_the_same_trials() -> None:
    for method in (Random(trials=6), Random({"rate": (1e-3, 1e-2), "rank": [8, 16]}, trials=6, even=True)):
        whole = method.propose([], RNG)
        assert len(whole) == 6
        for done in range(7):
            assert method.propose([(trial, {"x": 1.0}) for trial in whole[:done]], RNG) == whole[done:]


def test_more_trials_begin_with_the_fewer_and_keys_differ() -> None:
    assert Random(trials=3).propose([], RNG) == Random(trials=9).propose([], RNG)[:3]
    assert Random(trials=3).propose([], RNG) != Random(trials=3).propose([], RNG.child("other"))


def test_written_in_a_recipe() -> None:
    method = catalog.build_method("search", {"random": {"space": {"rate": {"low": 1e-3, "high": 1e-2}, "rank": [8, 16]}, "trials": 2}})
    assert method.propose([], RNG) == Random({"rate": (1e-3, 1e-2), "rank": [8, 16]}, 2).propose([], RNG)


def test_knobs_out_of_range() -> None:
    for knobs in ({"trials": 0}, {"space": {"rate": (0, 1)}}):
        with pytest.raises(ValueError, match=r"trials|rate"):
            Random(**knobs)

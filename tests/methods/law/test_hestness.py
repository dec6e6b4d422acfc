"""The power law of data: found again where it is exact, and its interval as wide as it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.law.hestness import Hestness

SIZES = np.geomspace(1e5, 3.2e6, 6)


def test_an_exact_law_is_found_and_goes_on() -> None:
    law = Hestness().fit({"tokens": SIZES, "heldout_nats": 40 * SIZES**-0.3 + 1.2})
    assert (round(law["alpha"]), round(law["beta"], 3), round(law["gamma"], 3)) == (40, -0.3, 1.2)
    said = Hestness().predict(law, {"tokens": [1e7, 1e8]})
    assert np.allclose(said["mean"], 40 * np.array([1e7, 1e8]) ** -0.3 + 1.2, rtol=1e-4)
    assert np.allclose(said["low"], said["high"], rtol=1e-3)
    assert json.loads(json.dumps(law)) == law


def test_the_interval_holds_new_runs_about_as_often_as_it_says() -> None:
    dice, inside = np.random.default_rng(0), []
    sizes = np.repeat(SIZES, 3)
    for _ in range(40):
        noisy = (20 * sizes**-0.25 + 1.5) * (1 + 0.01 * dice.normal(size=len(sizes)))
        said = Hestness(draws=100).predict(Hestness(draws=100).fit({"tokens": sizes, "heldout_nats": noisy}), {"tokens": 6.4e6})
        new = (20 * 6.4e6**-0.25 + 1.5) * (1 + 0.01 * dice.normal())
        assert said["low"] < said["mean"] < said["high"]
        inside.append(said["low"] <= new <= said["high"])
    assert np.mean(inside) >= 0.8


def test_the_best_model_of_each_size_is_taken_and_its_growth_fitted() -> None:
    tokens, models = (grid.ravel() for grid in np.meshgrid(SIZES, np.geomspace(1e4, 1e6, 21)))
    best = 50 * tokens**0.5  # the paper's finding: the best model grows more slowly than the data
    error = 30 * tokens**-0.3 + 1 + 0.05 * np.log(models / best) ** 2
    law = Hestness().fit({"tokens": tokens, "heldout_nats": error, "parameters": models})
    assert abs(law["grows"] - 0.5) < 0.1 and len(law["points"][0]) == 6
    assert np.isclose(law["gamma"], 1, atol=0.05)


def test_three_runs_promise_nothing_of_the_scatter() -> None:
    law = Hestness().fit({"tokens": SIZES[:3], "heldout_nats": [4.0, 3.0, 2.5]})
    said = Hestness().predict(law, {"tokens": 1e7})
    assert said["mean"] < 2.5 and np.isnan(said["low"]) and np.isnan(said["high"])


def test_runs_that_cannot_be_fitted() -> None:
    for runs, why in (
        ({"tokens": [1, 2], "heldout_nats": [2, 1]}, "three numbers"),
        ({"tokens": [1, 2, 3]}, "heldout_nats"),
        ({"tokens": [0, 2, 3], "heldout_nats": [3, 2, 1]}, "positive"),
        ({"tokens": [], "heldout_nats": []}, "hold a run"),
    ):
        with pytest.raises(BadInput, match=why):
            Hestness().fit(runs)
    with pytest.raises(ValueError, match="level"):
        Hestness(level=1.0)

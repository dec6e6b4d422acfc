"""The law of quantization: found again where it is exact, honest about what it leaves out, and the same read backwards."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.law.qid import Qid

GRID = [column.ravel() for column in np.meshgrid([1e5, 4e5, 1.6e6], [3e4, 1e5, 4e5], [2, 3, 4])]


def table(noise: float = 0.0) -> dict[str, np.ndarray]:
    tokens, parameters, bits = GRID
    delta = 0.02 * tokens**0.5 / (parameters**0.25 * bits**5)
    scatter = np.exp(noise * np.random.default_rng(0).normal(size=27))
    return {"tokens": tokens, "parameters": parameters, "bits": bits, "delta": delta * scatter}


def test_an_exact_law_is_found_again() -> None:
    law = Qid().fit(table())
    assert np.allclose([law["k"], law["beta"], law["alpha"], law["gamma"]], [0.02, 0.5, 0.25, 5.0])
    said = Qid().predict(law, {"tokens": 1e8, "parameters": 1e7, "bits": 3})
    assert np.isclose(said["mean"], 0.02 * 1e4 / (1e7**0.25 * 243))
    back = Qid().trained(law, {"delta": said["mean"], "parameters": 1e7, "bits": 3})
    assert np.isclose(back, 1e8)


def test_with_noise_the_interval_holds_the_truth() -> None:
    law = Qid().fit(table(0.2))
    said = Qid().predict(law, {"tokens": [1e5, 6.4e6], "parameters": [4e5, 4e5], "bits": [2, 3]})
    true = 0.02 * np.array([1e5, 6.4e6]) ** 0.5 / (4e5**0.25 * np.array([2, 3]) ** 5.0)
    assert (np.array(said["low"]) < true).all() and (true < np.array(said["high"])).all()
    assert abs(law["beta"] - 0.5) < 0.15 and abs(law["gamma"] - 5) < 0.6


def test_what_never_varies_has_no_exponent_and_what_costs_nothing_is_left_out() -> None:
    runs = {name: column[GRID[2] == 3] for name, column in table().items()}
    assert Qid().fit(runs)["gamma"] == 0
    runs["delta"] = np.where(runs["tokens"] == 1e5, -1e-3, runs["delta"])
    law = Qid().fit(runs)
    assert law["left_out"] == 3 and law["used"] == 6 and np.isclose(law["beta"], 0.5)
    assert Qid().trained({**law, "beta": 0.0}, {"delta": 1, "parameters": 1, "bits": 3}) == float("inf")


def test_runs_that_cannot_be_fitted() -> None:
    for change, why in (({"delta": np.zeros(27)}, "0 runs"), ({"bits": np.zeros(27)}, "positive"), ({"delta": np.zeros(3)}, "long")):
        with pytest.raises(BadInput, match=why):
            Qid().fit({**table(), **change})
    with pytest.raises(ValueError, match="least"):
        Qid(least=0)


@pytest.mark.parametrize("rounding", [0.0, 1e-4])
def test_columns_that_move_together_are_refused_by_name(rounding: float) -> None:
    """Runs that all have 20 tokens to the parameter, but for the last batch."""
    runs = {name: column.copy() for name, column in table(0.02).items()}
    runs["tokens"] = 20 * runs["parameters"] * (1 + rounding * np.random.default_rng(1).normal(size=27))
    with pytest.raises(BadInput, match="'tokens', 'parameters' move together"):
        Qid().fit(runs)
    runs["tokens"] = runs["tokens"] * np.where(GRID[2] == 3, 1.5, 1.0)  # a few runs of another length are enough
    assert set(Qid().fit(runs)) >= {"alpha", "beta", "gamma"}

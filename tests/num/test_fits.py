"""Fits against their closed forms, and against numbers that they are known to have come from."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.num import fits
from bloomery.seams import Rng


def test_ridge_without_a_penalty_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(40, 5)), np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    y = x @ w + 7 + rng.normal(size=40)
    ours = fits.ridge(x, y, [0.0])
    theirs = np.linalg.lstsq(np.hstack([x, np.ones((40, 1))]), y, rcond=None)[0]
    assert np.allclose(ours.weights_F, theirs[:5]) and np.isclose(ours.offset, theirs[5])


def test_the_leave_one_out_error_is_that_of_leaving_each_out() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 3))
    y = x @ [1.0, 0.0, -1.0] + rng.normal(size=12)
    strength = 0.3
    z = (x - x.mean(0)) / x.std(0)  # the features are standardised once, as the closed form has it
    wrong = []
    for i in range(12):
        keep = np.arange(12) != i
        a, b = np.hstack([z[keep], np.ones((11, 1))]), np.hstack([z[i], 1.0])
        penalty = np.diag([strength * 12] * 3 + [0.0])
        wrong.append(y[i] - b @ np.linalg.solve(a.T @ a + penalty, a.T @ y[keep]))
    assert np.isclose(fits.ridge(x, y, [strength]).left_out, np.sqrt(np.mean(np.square(wrong))))


def test_ridge_chooses_its_strength_and_ignores_what_never_varies() -> None:
    rng = np.random.default_rng(2)
    x = np.hstack([rng.normal(size=(16, 12)), np.full((16, 1), 3.0)])
    noisy = x[:, 0] + 2 * rng.normal(size=16)
    assert fits.ridge(x, noisy).left_out < fits.ridge(x, noisy, [1e-8]).left_out
    assert fits.ridge(x, noisy).weights_F[-1] == 0
    with pytest.raises(ValueError, match="two runs"):
        fits.ridge(x[:1], noisy[:1])


@pytest.mark.parametrize("law", [(5.0, -0.3, 1.5), (80.0, -0.5, 0.0), (3.0, -0.08, 2.0), (1e4, -1.2, 0.7)])
def test_a_power_law_is_found_again(law) -> None:
    alpha, beta, gamma = law
    m = np.geomspace(1e5, 1e8, 6)
    found = fits.power_law(m, alpha * m**beta + gamma)
    assert np.allclose(found[0] * 3e9 ** found[1] + found[2], alpha * 3e9**beta + gamma, rtol=1e-5)
    assert np.isclose(found[1], beta, rtol=1e-2)


def test_a_power_law_keeps_its_signs_where_the_error_grows() -> None:
    m = np.array([1e3, 1e4, 1e5, 1e6])
    alpha, beta, gamma = fits.power_law(m, np.array([1.0, 2.0, 3.0, 4.0]))
    assert beta < 0 and alpha >= 0 and gamma >= 0


def test_redrawn_fits_scatter_as_theory_says() -> None:
    """The standard error of a mean is sigma / root(n)."""
    y = np.random.default_rng(3).normal(5.0, 2.0, size=50)
    means, scatter = fits.redrawn(lambda v: [v.mean()], np.full(50, y.mean()), y - y.mean(), 1, Rng((0,)), 2000)
    assert np.isclose(np.std(means), y.std(ddof=1) / np.sqrt(50), rtol=0.08)
    assert np.isclose(np.std(scatter), y.std(ddof=1), rtol=0.08)
    assert fits.redrawn(lambda v: [v.mean()], y[:1], y[:1] * 0, 1, Rng((0,)), 10) == ([], [])
    low, high = fits.interval(np.zeros((0, 3)), 0.95)
    assert np.isnan(low).all() and low.shape == high.shape == (3,)


def test_columns_are_checked() -> None:
    runs = {"tokens": [1, 2], "error": [1.0, float("nan")], "name": ["a", "b"], "short": [1]}
    wrong = ((["token"], "did you mean tokens"), (["error"], "not finite"), (["name"], "numbers"), (["tokens", "short"], "long"))
    for names, said in wrong:
        with pytest.raises(BadInput, match=said):
            fits.columns(runs, names, "law")

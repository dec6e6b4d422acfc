"""The accountants against closed forms, against each other, and the proven error against a sum whose distribution is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.num import privacy
from bloomery.num.privacy import Mechanism, epsilon, noise


def gaussian_delta(e: float, mu: float) -> float:
    """Of a sum of Gaussian mechanisms without sampling, mu = sqrt(steps) / sigma (Balle & Wang 2018)."""
    tail = lambda x: 0.5 * math.erfc(x / math.sqrt(2))  # noqa: E731
    return tail(e / mu - mu / 2) - math.exp(e) * tail(e / mu + mu / 2)


@pytest.mark.parametrize(("sigma", "steps", "delta"), [(1.0, 1, 1e-5), (2.0, 10, 1e-6), (5.0, 100, 1e-5)])
def test_without_sampling_all_accountants_agree_with_the_closed_form(sigma: float, steps: int, delta: float) -> None:
    wanted = privacy.solve(lambda e: gaussian_delta(e, math.sqrt(steps) / sigma), delta)
    assert epsilon(sigma, 1.0, steps, delta, "pld") == pytest.approx(wanted, rel=1e-4)
    assert epsilon(sigma, 1.0, steps, delta, "edgeworth") == pytest.approx(wanted, rel=1e-4)  # the loss is normal: no correction
    assert wanted <= epsilon(sigma, 1.0, steps, delta, "rdp") < 1.2 * wanted


def test_one_sampled_step_is_the_hockey_stick_of_the_pair() -> None:
    sigma, rate, delta = 0.7, 0.05, 1e-4
    x = np.linspace(-20, 20, 2_000_001)
    q = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    p = (1 - rate) * q + rate * np.exp(-0.5 * ((x - 1) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    found = epsilon(sigma, rate, 1, delta, "pld")
    given = [float(np.clip(a - math.exp(found) * b, 0, None).sum() * 2e-5) for a, b in ((p, q), (q, p))]
    assert max(given) == pytest.approx(delta, rel=2e-3)


def test_known_figures_of_sampled_runs() -> None:
    """Computed with the Fourier accountant of Koskela et al. (removal of a row, 4 million points)."""
    for sigma, rate, steps, delta, wanted in ((1.0, 0.01, 1000, 1e-5, 1.82824), (4.0, 0.01, 1000, 1e-5, 0.27214)):
        assert epsilon(sigma, rate, steps, delta) == pytest.approx(wanted, rel=2e-4)


def test_renyi_divergences_are_the_binomial_sums_at_whole_orders() -> None:
    sigma, rate = 1.3, 0.02
    for order in (2, 5, 30):
        terms = [
            math.log(math.comb(order, k)) + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * sigma**2)
            for k in range(order + 1)
        ]
        wanted = (max(terms) + math.log(sum(math.exp(t - max(terms)) for t in terms))) / (order - 1)
        assert float(privacy.renyi(Mechanism(sigma, rate), np.array([order]))[0]) == pytest.approx(wanted, rel=1e-8)


def test_the_renyi_bound_is_above_the_composition_and_the_estimate_near_it_where_losses_are_nearly_normal() -> None:
    for sigma, rate, steps in ((2.0, 0.01, 2000), (4.0, 0.02, 1000)):
        exact, bound = (epsilon(sigma, rate, steps, 1e-5, name) for name in ("pld", "rdp"))
        assert exact < bound < 1.4 * exact
        assert epsilon(sigma, rate, steps, 1e-5, "edgeworth") == pytest.approx(exact, rel=0.02)


def test_the_proven_error_holds_for_sums_of_exponentials_and_makes_a_bound() -> None:
    one = privacy.Moments(1.0, 1.0, 2.0, 9.0, 12 / math.e - 2, 2 / math.e)  # of an exponential number
    for steps in (10, 100):
        worst = 0.0
        for x in np.linspace(0.01, 3 * steps, 400):
            terms = [k * math.log(x) - x - math.lgamma(k + 1) for k in range(steps)]  # the sum exceeds x: fewer than `steps` arrivals
            exact = sum(map(math.exp, terms))
            worst = max(worst, abs(exact - privacy.expansion(float(x), one, steps, 1)))
        assert 0 < worst < privacy.expansion_error(one, steps)
    assert privacy.expansion_error(one, 10**8) < 1e-3 * privacy.expansion_error(one, 100)
    sigma, rate, steps = 0.8, 0.4 / math.sqrt(1e5), 100_000
    exact, bound = (epsilon(sigma, rate, steps, 0.1, name) for name in ("pld", "edgeworth_bound"))
    assert exact < bound < 4 * exact
    assert math.isinf(epsilon(1.0, 0.01, 1000, 1e-5, "edgeworth_bound"))  # its error alone is above such a delta


def test_noise_for_a_target_and_wrong_numbers() -> None:
    for accountant in ("rdp", "edgeworth"):
        sigma = noise(2.0, 0.02, 300, 1e-5, accountant, unproven=True)
        assert epsilon(sigma, 0.02, 300, 1e-5, accountant) <= 2.0 < epsilon(0.99 * sigma, 0.02, 300, 1e-5, accountant)
    for wrong in ((0.0, 0.1, 1, 0.1), (1.0, 1.5, 1, 0.1), (1.0, 0.1, 0, 0.1), (1.0, 0.1, 1, 0.0)):
        with pytest.raises(ValueError):
            epsilon(*wrong)
        with pytest.raises(ValueError):
            noise(1.0, *wrong[1:]) if wrong[0] else noise(0.0, *wrong[1:])


def test_an_estimate_is_no_promise_and_noise_is_confirmed_by_exact_composition() -> None:
    rate, steps, delta = 0.005, 200, 1e-6
    low, exact = (epsilon(0.5, rate, steps, delta, name) for name in ("edgeworth", "pld"))
    assert (low, exact) == (pytest.approx(0.49, abs=0.005), pytest.approx(6.50, abs=0.005))
    raw = noise(3.0, rate, steps, delta, "edgeworth", unproven=True)
    assert epsilon(raw, rate, steps, delta, "edgeworth") <= 3.0 and epsilon(raw, rate, steps, delta) == pytest.approx(13.3, abs=0.1)
    rate, steps, delta = 0.03, 100, 1e-5
    raw, sigma = (noise(8.0, rate, steps, delta, "edgeworth", unproven) for unproven in (True, False))
    assert epsilon(raw, rate, steps, delta) > 10 and 7.99 < epsilon(sigma, rate, steps, delta) <= 8.0
    assert noise(8.0, rate, steps, delta, "rdp") == noise(8.0, rate, steps, delta, "rdp", unproven=True)  # a bound is left as it is


def test_an_expansion_below_zero_is_no_epsilon_of_zero() -> None:
    assert epsilon(0.6, 0.001, 100, 1e-5) == pytest.approx(0.78, abs=0.01)
    assert math.isinf(epsilon(0.6, 0.001, 100, 1e-5, "edgeworth"))


def test_the_search_for_noise_ends_at_the_least_that_was_looked_at() -> None:
    assert noise(1.0, 0.001, 10, 0.02) == privacy.LEAST  # a larger delta than the probability that the row takes part
    found = noise(1e6, 1.0, 1, 1e-5, "rdp", unproven=True)
    assert privacy.LEAST <= found < 1.01 * privacy.LEAST and epsilon(found, 1.0, 1, 1e-5, "rdp") <= 1e6

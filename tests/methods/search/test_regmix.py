"""RegMix on a loss whose best mixture is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.search.regmix import Regmix
from bloomery.seams import Rng

RNG = Rng((0, "search"))
NATURAL = {"a": 0.5, "b": 0.3, "c": 0.2}
BEST = np.array([0.2, 0.3, 0.5])


def loss(mixture: dict[str, float], noise: float = 0.0) -> dict[str, float]:
    """Least at BEST: minus the sum of BEST_i log(w_i + floor), which is what the regression can express."""
    weights = np.array([mixture[name] for name in NATURAL])
    return {"heldout_nats": float(4 - BEST @ np.log(weights / weights.sum() + 0.003)) + noise}


def history_of(method: Regmix, noise=lambda: 0.0) -> list:
    return [(trial, loss(trial[method.knob], noise())) for trial in method.propose([], RNG)]


def test_the_best_mixture_is_found() -> None:
    method = Regmix(NATURAL, trials=12)
    (final,) = method.propose(history_of(method), RNG)
    found = np.array([final[method.knob][name] for name in NATURAL])
    assert final["phase"] == "final" and np.abs(found - BEST).max() < 0.05
    assert loss(final[method.knob])["heldout_nats"] < min(figures["heldout_nats"] for _, figures in history_of(method))
    assert loss(final[method.knob])["heldout_nats"] < loss(NATURAL)["heldout_nats"] - 0.1


def test_with_noise_it_still_beats_the_natural_mixture_and_ranks_others() -> None:
    dice = np.random.default_rng(0)
    method = Regmix(NATURAL, trials=32)
    history = history_of(method, lambda: float(dice.normal(0, 0.05)))
    (final,) = method.propose(history, RNG)
    assert loss(final[method.knob])["heldout_nats"] < loss(NATURAL)["heldout_nats"]
    others = dice.dirichlet([1, 1, 1], 100)
    predicted, true = method.fitted(history)(others), [loss(dict(zip(NATURAL, row, strict=True)))["heldout_nats"] for row in others]
    ranks = [np.argsort(np.argsort(column)) for column in (predicted, true)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


def test_proxies_lie_around_the_natural_mixture_and_within_the_bound() -> None:
    method = Regmix(NATURAL, trials=200, temperature=1.0, strengths=(50.0, 50.0), most=2.0)
    drawn = np.array([[trial[method.knob][name] for name in NATURAL] for trial in method.propose([], RNG)])
    assert np.allclose(drawn.sum(1), 1, atol=2e-4)
    assert np.allclose(drawn.mean(0), list(NATURAL.values()), atol=0.02)
    tight = Regmix(NATURAL, trials=50, most=1.5)
    assert all(one[tight.knob][name] <= 1.5 * NATURAL[name] + 1e-4 for one in tight.propose([], RNG) for name in NATURAL)


def test_a_search_cut_anywhere_goes_on_with_the_same_trials() -> None:
    method = Regmix(NATURAL, trials=6, simulated=2000)
    history = history_of(method)
    for done in range(6):
        assert method.propose(history[:done], RNG) == [trial for trial, _ in history[done:]]
    (final,) = method.propose(history, RNG)
    assert method.propose(history, RNG) == [final]
    assert method.propose([*history, (final, {})], RNG) == []


def test_what_cannot_be_proposed_is_said() -> None:
    with pytest.raises(BadInput, match="natural"):
        Regmix().propose([], RNG)
    method = Regmix(NATURAL, trials=3)
    with pytest.raises(BadInput, match="1 of 3"):
        method.propose([(trial, loss(trial[method.knob]) if i == 0 else {}) for i, trial in enumerate(method.propose([], RNG))], RNG)
    for knobs in ({"trials": 1}, {"top": 0}, {"natural": {"a": 1.0}}, {"natural": {"a": 1.0, "b": 0.0}}, {"strengths": (5.0, 1.0)}):
        with pytest.raises(ValueError, match=r"trials|natural|strength"):
            Regmix(**knobs)


def test_a_bound_that_leaves_too_few_mixtures_is_refused() -> None:
    with pytest.raises(ValueError, match="most above 1"):
        Regmix(NATURAL, most=1.0)
    with pytest.raises(BadInput, match="none of 1000 mixtures"):
        Regmix(NATURAL, trials=2, most=1.0001).propose([], RNG)
    (final,) = Regmix(NATURAL, trials=4, most=1.5, simulated=2000).propose(history_of(Regmix(NATURAL, trials=4)), RNG)
    assert math.isfinite(sum(final[Regmix().knob].values()))  # what is proposed in the end is not held within the bound of proxies


def test_no_two_proxies_are_alike() -> None:
    method = Regmix({"a": 0.5, "b": 0.5}, trials=40, strengths=(0.01, 0.02))  # almost all weight on one of two domains
    drawn = [tuple(trial[method.knob].values()) for trial in method.propose([], RNG)]
    assert len(set(drawn)) == 40 and sum(max(one) > 0.99 for one in drawn) > 20
    assert method.proxies(43, RNG)[:40] == [trial[method.knob] for trial in method.propose([], RNG)]

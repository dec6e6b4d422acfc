"""Shares that follow a falling temperature."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.batching.cooldown import Cooldown, shares
from bloomery.methods.batching.mixture import Mixture
from bloomery.methods.batching.packed import Packed
from bloomery.seams import Clock, Pool, Rng

RNG = Rng((0, "batches"))
DOMAIN = np.repeat([0, 1], [90, 10])
POOL = Pool(np.full(100, 32), 16, DOMAIN, ("large", "small"))


def clock(tokens: int, total: float | None = 32_000) -> Clock:
    return Clock(tokens // 320, tokens, 320, total)


def test_shares_are_those_of_the_formula():
    assert shares({"a": 900.0, "b": 100.0}, 1) == pytest.approx({"a": 0.9, "b": 0.1})
    by_hand = np.array([900.0, 100.0]) ** (1 / 5)
    assert list(shares({"a": 900.0, "b": 100.0}, 5).values()) == pytest.approx(list(by_hand / by_hand.sum()))
    assert shares({"a": 900.0, "b": 100.0}, 1e9)["b"] == pytest.approx(0.5)


def test_the_temperature_falls_in_a_straight_line():
    method = Cooldown(high=5, low=1, begin=0.5, end=0.75)
    seen = [method.temperature(clock(int(done * 32_000))) for done in (0, 0.499, 0.5, 0.625, 0.75, 1.0)]
    assert seen == pytest.approx([5, 5, 5, 3, 1, 1], abs=0.01)
    step = Cooldown(high=4, begin=0.3, end=0.3)
    assert [step.temperature(clock(int(done * 32_000))) for done in (0.29, 0.3)] == [4, 1]
    assert method.temperature(clock(31_000, None)) == 5


def test_rows_are_drawn_in_these_shares_over_the_run():
    method, state, drawn = Cooldown(high=5, inner=Packed()), None, [Counter(), Counter()]
    for step in range(100):
        rows, state = method.plan(POOL, state, clock(step * 320), RNG)
        assert len(rows) == 20
        if step < 50 or step >= 75:
            drawn[step >= 75].update(int(DOMAIN[row[0][0]]) for row in rows)
    hot = shares({"large": 900.0, "small": 100.0}, 5)["small"]
    assert drawn[0][1] / sum(drawn[0].values()) == pytest.approx(hot, abs=0.002)
    assert drawn[1][1] / sum(drawn[1].values()) == pytest.approx(0.1, abs=0.004)


def test_at_one_temperature_it_is_a_mixture():
    ours, fixed, states = Cooldown(high=1, inner=Packed()), Mixture({"large": 0.9, "small": 0.1}, Packed()), [None, None]
    for step in range(10):
        rows, states[0] = ours.plan(POOL, states[0], clock(step * 320), RNG)
        wanted, states[1] = fixed.plan(POOL, states[1], clock(step * 320), RNG)
        assert rows == wanted


def test_expected_gradients_agree_with_upweighting_and_vary_less():
    """The paper's theorem on two domains of given gradients: to draw in shares p, or by size with weights p over the share of the size."""
    draw = np.random.default_rng(0)
    sizes = np.array([0.9, 0.1])
    p = np.array(list(shares({"a": 0.9, "b": 0.1}, 5).values()))
    gradients = np.array([1.0, 3.0])
    upsampled = gradients[draw.choice(2, 200_000, p=p)] + draw.normal(size=200_000)
    which = draw.choice(2, 200_000, p=sizes)
    upweighted = (p / sizes)[which] * (gradients[which] + draw.normal(size=200_000))
    assert upsampled.mean() == pytest.approx(p @ gradients, abs=0.02) and upweighted.mean() == pytest.approx(p @ gradients, abs=0.05)
    assert upsampled.var() < 0.5 * upweighted.var()


def test_bad_input():
    with pytest.raises(BadInput, match="cooldown mixes domains and the documents have none"):
        Cooldown(inner=Packed()).plan(Pool(np.full(4, 8), 16), None, clock(0), RNG)
    for knobs, wrong in (({"high": 0.5}, "at least 1"), ({"begin": 0.8, "end": 0.5}, "in this order"), ({"end": 1.5}, "in this order")):
        with pytest.raises(ValueError, match=wrong):
            Cooldown(**knobs)

"""Weights that follow losses."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.batching.mixture import Mixture
from bloomery.methods.batching.packed import Packed
from bloomery.methods.batching.skill_it import SkillIt
from bloomery.seams import Clock, Pool, Rng

RNG = Rng((0, "batches"))
NAMES = ("a", "b", "c")
DOMAIN = np.arange(60) % 3
POOL = Pool(np.random.default_rng(0).integers(1, 40, 60), 16, DOMAIN, NAMES)
GRAPH = {"a": {"b": 0.5}, "b": {"c": 0.25}}


def clock(step: int, *losses: float) -> Clock:
    seen = {f"heldout_nats/{name}": loss for name, loss in zip(NAMES, losses, strict=False)}
    return Clock(step, 0, 320, None, seen | ({"heldout_nats": 1.0} if losses else {}))


def test_weights_are_those_of_the_formula() -> None:
    """exp(eta * A @ summed losses of the window), by hand."""
    method, state = SkillIt(GRAPH, eta=0.7, window=2, relative=False, inner=Packed()), None
    measured = [(3.0, 2.0, 1.0), (1.5, 2.0, 1.5), (0.5, 1.0, 2.5)]
    a = np.array([[1, 0.5, 0], [0, 1, 0.25], [0, 0, 1]])
    for step, losses in enumerate([(), *measured]):
        for _ in range(3):  # the same measurement is counted once
            _, state = method.plan(POOL, state, clock(step, *losses), RNG)
        window = np.sum(measured[max(0, step - 2) : step], axis=0) if step else np.ones(3)
        wanted = np.exp(0.7 * a @ window)
        found = method.weights(list(NAMES), state["losses"], state["first"])
        assert list(found.values()) == pytest.approx(list(wanted / wanted.sum()))


def test_relative_losses_begin_alike_and_targets_alone_count() -> None:
    method = SkillIt(GRAPH, relative=True)
    first = {"a": 4.0, "b": 2.0, "c": 0.5}
    assert method.weights(list(NAMES), [first], first) == pytest.approx(method.weights(list(NAMES), [], None))
    found = SkillIt(GRAPH, eta=1.0, relative=False, targets=("c",)).weights(list(NAMES), [{"c": 2.0}], {"c": 2.0})
    raw = [1.0, math.exp(0.5), math.exp(2.0)]
    assert list(found.values()) == pytest.approx([one / sum(raw) for one in raw])


def test_without_pull_it_is_the_even_mixture() -> None:
    ours, even, states = SkillIt(eta=0.0, inner=Packed()), Mixture(inner=Packed()), [None, None]
    for step in range(8):
        rows, states[0] = ours.plan(POOL, states[0], clock(step, 3.0 - step / 4, 1.0, 2.0), RNG)
        wanted, states[1] = even.plan(POOL, states[1], clock(step), RNG)
        assert rows == wanted


def test_what_is_not_learned_gets_more_and_a_resumed_run_is_the_same() -> None:
    def run(interrupted: bool) -> list:
        state, found = None, []
        for step in range(30):
            losses = () if step < 4 else (0.5, 3.0 - step / 40, 1.0)
            rows, state = SkillIt(inner=Packed(), relative=False).plan(POOL, state, clock(step // 4, *losses), RNG)
            state = json.loads(json.dumps(state)) if interrupted else state
            found.append(rows)
        return found

    steps = run(False)
    assert steps == run(True)
    counts = Counter(int(DOMAIN[row[0][0]]) for rows in steps[12:] for row in rows)
    assert counts[1] > 2 * counts[2] > 2 * counts[0] > 0


def test_what_cannot_be_followed_is_said() -> None:
    method = SkillIt(inner=Packed())
    with pytest.raises(BadInput, match="nothing of the domain 'c' is held out"):
        method.plan(POOL, None, clock(1, 1.0, 2.0), RNG)
    with pytest.raises(BadInput, match="there is no domain 'd'"):
        SkillIt({"a": {"d": 0.5}}, inner=Packed()).plan(POOL, None, clock(0), RNG)
    with pytest.raises(BadInput, match="the documents have none"):
        method.plan(Pool([5, 5], 4), None, clock(0), RNG)

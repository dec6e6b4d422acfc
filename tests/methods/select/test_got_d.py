from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.select.got_d import GotD, gradients
from bloomery.num.nearest import unit
from bloomery.num.transport import potentials, squared
from bloomery.seams import Rng

RNG = Rng((0,))


def columns(vectors, domain, sizes=None):
    sizes = sizes if sizes is not None else [10] * len(domain)
    return {"embed:encoder:mean": np.asarray(vectors, np.float32), "domain": np.array(domain, object), "bytes": sizes}


def around(degrees: float, count: int, draw: np.random.Generator) -> np.ndarray:
    turned = np.radians(degrees + draw.normal(0, 3, count))
    return np.stack([np.cos(turned), np.sin(turned)], 1)


def test_exact_the_gradient_is_the_change_of_the_cost():
    """Of a little mass of one base document, put in the place of the others' (finite differences), for every one."""
    draw = np.random.default_rng(1)
    base, target = unit(draw.normal(size=(7, 3))), unit(draw.normal(size=(5, 3)))
    cost, b, little = squared(base, target), np.full(5, 0.2), 1e-4
    epsilon = 0.2 * cost.mean()

    def total(a):
        f, g = potentials(cost, a, b, epsilon, tolerance=1e-10, most=20_000)
        return a @ f + b @ g

    even = np.full(7, 1 / 7)
    for k, slope in enumerate(gradients(base, target, base, 0.2)):
        others = (1 - np.eye(7)[k]) / 6
        assert (total(even + little * (np.eye(7)[k] - others)) - total(even)) / little == pytest.approx(slope, abs=2e-3)


def test_property_what_the_base_lacks_comes_before_what_is_merely_near():
    """The target is half at 0 and half at 90 degrees, the base all at 0: what is needed is at 90, though 0 is as near to the target."""
    draw = np.random.default_rng(2)
    places = {"base": [(0, 40)], "target": [(0, 10), (90, 10)], "pool": [(0, 30), (90, 30), (200, 30)]}
    vectors, domain, angle = [], [], []
    for name, parts in places.items():
        for degrees, count in parts:
            vectors.append(around(degrees, count, draw))
            domain += [name] * count
            angle += [degrees] * count
    given = columns(np.concatenate(vectors), domain)
    found = GotD(base="base").weigh(given, 250, RNG) > 0
    assert found.sum() == 25 and set(np.array(angle)[found]) == {90} and set(np.array(domain, object)[found]) == {"pool"}
    most = np.array(angle)[GotD(base="base").weigh(given, 600, RNG) > 0]
    assert 200 not in most and (most == 90).sum() == 30, "what is nearer to no part of the target comes last"
    alone = GotD().weigh(given, 250, RNG) > 0
    assert set(np.array(domain, object)[alone]) <= {"pool", "base"}, "without a base the candidates stand for it"
    assert np.array_equal(GotD(base="base").weigh(given, 250, Rng((9,))) > 0, found), "no side is sampled here"


def test_property_a_sample_of_both_sides_does():
    draw = np.random.default_rng(3)
    vectors = np.concatenate([around(0, 300, draw), around(80, 100, draw), around(0, 200, draw), around(80, 200, draw)])
    given = columns(vectors, [*["base"] * 300, *["target"] * 100, *["pool"] * 400])
    found = np.flatnonzero(GotD(base="base", sample=40).weigh(given, 1500, RNG))
    assert len(found) == 150 and (found >= 600).all()


def test_bad_input():
    given = columns(np.eye(3), ["target", "pool", "base"])
    for knobs, wrong in (({"target": "x"}, "no document is of domain 'x', the target"), ({"base": "x"}, "'x', the base")):
        with pytest.raises(BadInput, match=f"got_d: .*{wrong}"):
            GotD(**knobs).weigh(given, 9, RNG)
    with pytest.raises(BadInput, match="must hold candidates too"):
        GotD(base="pool").weigh(columns(np.eye(2), ["target", "pool"]), 9, RNG)
    with pytest.raises(ValueError, match="epsilon above 0"):
        GotD(epsilon=0)

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


def test_property_of_a_target_that_mixes_kinds_the_missing_one_is_taken_not_the_most_frequent():
    """Targets are means of five lines, dialog by 0.6, list by 0.3, plain by 0.1; the base has dialog and plain. Most alike is dialog."""
    draw, kinds = np.random.default_rng(4), ("plain", "verse", "list", "code", "dialog")
    centres = np.concatenate([np.eye(5, 20), np.full((5, 1), 2.0)], axis=1)  # far from 0, as hidden states are

    def documents(count, *parts):
        lines = np.stack([centres[draw.choice(5, 5, p=parts)].mean(0) for _ in range(count)])
        return lines + draw.normal(0, 0.05, lines.shape)

    base = documents(60, *np.eye(5)[0]), documents(60, *np.eye(5)[4])
    pool = [documents(40, *row) for row in np.eye(5)]
    vectors = np.concatenate([*base, documents(40, 0.1, 0, 0.3, 0, 0.6), *pool])
    domain = [*["base"] * 120, *["target"] * 40, *np.repeat(kinds, 40)]
    found = np.array(domain, object)[GotD(base="base").weigh(columns(vectors, domain), 300, RNG) > 0]
    assert np.mean(found == "list") > 0.9
    like = (unit(vectors[160:]) @ unit(vectors[120:160]).T).mean(1).reshape(5, 40).mean(1)
    assert kinds[like.argmax()] == "dialog"

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.select.rds_plus import RdsPlus
from bloomery.seams import Rng

RNG = Rng((0,))


def columns(vectors, domain, sizes=None, **more):
    sizes = sizes if sizes is not None else [10] * len(domain)
    return {"embed:encoder:weighted": np.array(vectors, np.float32), "domain": np.array(domain, object), "bytes": sizes, **more}


def at(*degrees: float):
    """Unit vectors of the plane, some of them longer: only the angle counts."""
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], 1) * np.arange(1, len(degrees) + 1)[:, None]


def by_hand(given, budget):
    """Turns over a full ranking of the pool for every document of the target."""
    wanted = np.array(given["domain"]) == "target"
    vectors = given["embed:encoder:weighted"] / np.linalg.norm(given["embed:encoder:weighted"], axis=1, keepdims=True)
    sizes, weights = np.array(given["bytes"]), np.zeros(len(wanted))
    pool = [k for k in np.flatnonzero(~wanted) if sizes[k] <= budget]
    while True:
        for query in vectors[wanted]:
            left = [k for k in pool if not weights[k]]
            best = max(left, key=lambda k: (query @ vectors[k], -k), default=None)
            if best is None or sizes[best] > budget - sizes @ weights:
                return weights
            weights[best] = 1


def test_exact_turns():
    given = columns(at(0, 90, 3, 5, 80, 40, 44), ["target", "target", *["pool"] * 5])
    assert RdsPlus().weigh(given, 30, RNG).tolist() == [0, 0, 1, 1, 1, 0, 0]  # 3 and 80 degrees, then 5
    assert RdsPlus().weigh(given, 40, RNG).tolist() == [0, 0, 1, 1, 1, 0, 1]
    assert RdsPlus().weigh(given, 1000, RNG).tolist() == [0, 0, 1, 1, 1, 1, 1]
    one = {**given, "task": ["far", "far", *[""] * 5]}
    assert RdsPlus(task="task").weigh(one, 20, RNG).tolist() == [0, 0, 1, 1, 0, 0, 0]  # one task of both: 3 and 5 are nearest to any
    large = columns(at(0, 1, 2, 3), ["target", *["pool"] * 3], [1, 99, 5, 6])
    assert RdsPlus().weigh(large, 10, RNG).tolist() == [0, 0, 1, 0], "what no budget could hold takes no part; the first overflow ends"


@pytest.mark.parametrize("seed", range(6))
def test_property_few_neighbours_give_what_all_would(seed):
    draw = np.random.default_rng(seed)
    domain = np.where(draw.random(300) < 0.05, "target", "pool").astype(object)
    domain[:2] = "target", "pool"
    centre = np.zeros(4) if seed % 2 else np.ones(4) * 3  # all alike: every turn wants the same documents
    given = columns(draw.normal(size=(300, 4)) + centre, domain, draw.integers(1, 60, 300))
    for budget in (1, 50, 1500, 10**6):
        found = RdsPlus().weigh(given, budget, RNG)
        assert np.array_equal(found, by_hand(given, budget)) and found @ given["bytes"] <= budget
    assert not found[domain == "target"].any() and found[domain == "pool"].all()


def test_the_knobs_name_the_vectors():
    assert RdsPlus().needs == ("embed:encoder:weighted",)
    assert RdsPlus(pooling="mean", model="small").needs == ("embed:small:mean",)


def test_bad_input():
    given = columns(at(0, 1), ["a", "b"])
    with pytest.raises(BadInput, match="rds_plus: no document is of domain 'target'"):
        RdsPlus().weigh(given, 9, RNG)
    with pytest.raises(BadInput, match="no column 'kind'"):
        RdsPlus(target="a", task="kind").weigh(given, 9, RNG)

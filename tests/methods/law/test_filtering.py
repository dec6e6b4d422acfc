"""Pools that lose their worth when they are repeated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.law.filtering import Filtering, exponent

A, D = 8.0, 0.4
POOLS = {"clean": (-0.30, 2.0, 1000.0), "fair": (-0.24, 5.0, 3000.0), "poor": (-0.16, 8.0, 9000.0)}  # b, tau, held


def error(b: float, tau: float, held: float, size: float) -> float:
    """The product of the paper, pass by pass."""
    value, j = A * min(size, held) ** b, 2
    while size > (j - 1) * held:
        value *= (min(size, j * held) / ((j - 1) * held)) ** (b * 0.5 ** ((j - 1) / tau))
        j += 1
    return value + D


def runs(sizes=(300, 700, 1500, 4000, 12_000)) -> dict[str, list]:
    rows = [(name, held, size, error(b, tau, held, size)) for name, (b, tau, held) in POOLS.items() for size in sizes]
    return dict(zip(("pool", "held", "tokens", "heldout_nats"), map(list, zip(*rows, strict=True)), strict=True))


@pytest.fixture(scope="module")
def fitted() -> dict:
    return Filtering().fit(runs())


def test_exact_the_exponent_is_the_product_of_the_paper():
    for b, tau, held in POOLS.values():
        for size in (10, 999, 1000, 1001, 2500, 30_000):
            assert A * math.exp(b * exponent(size, held, tau)) + D == pytest.approx(error(b, tau, held, size))
    assert exponent([500, 2000], 1000.0, 1e12).tolist() == pytest.approx([math.log(500), math.log(2000)]), "what never tires is fresh data"
    assert exponent(5000, 1000.0, 1e-9) == pytest.approx(math.log(1000)), "what tires at once stays at one pass"


def test_it_finds_the_numbers_that_made_the_runs(fitted):
    law = fitted
    assert law["a"] == pytest.approx(A, rel=0.1) and law["d"] == pytest.approx(D, abs=0.05)
    for name, (b, tau, held) in POOLS.items():
        assert law["pools"][name]["b"] == pytest.approx(b, rel=0.06) and law["pools"][name]["held"] == held
        if held < 4000:
            assert law["pools"][name]["tau"] == pytest.approx(tau, rel=0.3)
    query = {"pools": ["clean"], "tokens": [200, 2000, 20_000]}
    assert Filtering().predict(law, query)["mean"] == pytest.approx([error(*POOLS["clean"], size) for size in query["tokens"]], rel=0.02)


def test_a_union_by_hand():
    law = {"a": A, "d": D, "pools": {name: {"b": b, "tau": tau, "held": held} for name, (b, tau, held) in POOLS.items()}}
    found = Filtering().predict(law, {"pools": ["clean", "fair"], "tokens": 10_000})
    b = (0.25 * -0.30, 0.75 * -0.24)
    first = sum(b) * math.log(4000)
    second = sum(x * 0.5 ** (1 / (2 * tau)) for x, tau in zip(b, (2.0, 5.0), strict=True)) * math.log(8000 / 4000)
    third = sum(x * 0.5 ** (2 / (2 * tau)) for x, tau in zip(b, (2.0, 5.0), strict=True)) * math.log(10_000 / 8000)
    assert found["mean"] == pytest.approx(A * math.exp(first + second + third) + D) and math.isnan(found["low"])


def test_property_the_best_pool_depends_on_the_budget(fitted):
    """The paper's point: the cleanest alone while there is enough of it, more of the rest the longer the run."""
    law = fitted
    unions = (["clean"], ["clean", "fair"], ["clean", "fair", "poor"])
    best = [min(unions, key=lambda one: Filtering().predict(law, {"pools": one, "tokens": size})["mean"]) for size in (500, 100_000)]
    assert best[0] == ["clean"] and len(best[1]) > 1


def test_pools_that_no_run_repeated_have_no_half_life():
    rows = runs((100, 300, 700))
    law = Filtering().fit(rows)
    assert all(one["tau"] is None for one in law["pools"].values())
    assert Filtering().predict(law, {"pools": ["clean"], "tokens": 900})["mean"] == pytest.approx(error(*POOLS["clean"], 900), rel=0.05)
    with pytest.raises(BadInput, match="would be repeated"):
        Filtering().predict(law, {"pools": ["clean"], "tokens": 5000})


def test_bad_input(fitted):
    with pytest.raises(BadInput, match="nothing was fitted for the pool 'x'; known: clean"):
        Filtering().predict(fitted, {"pools": ["x"], "tokens": 5})
    with pytest.raises(BadInput, match="three sizes at least"):
        Filtering().fit(runs((100, 300)))
    with pytest.raises(BadInput, match="must be positive"):
        Filtering().fit({**runs(), "tokens": np.zeros(15)})
    with pytest.raises(BadInput):
        Filtering().fit({"tokens": [1.0]})

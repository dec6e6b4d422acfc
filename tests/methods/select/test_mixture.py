from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.select.mixture import Mixture
from bloomery.seams import Rng

DOMAIN = np.array(["web"] * 6 + ["code"] * 3, object)
COST = np.array([10, 10, 10, 10, 10, 10, 4, 4, 4])


def test_exact_shares_and_rounds_by_hand():
    taken = Mixture({"web": 1, "code": 1}).weigh({"domain": DOMAIN, "cost": COST, "bytes": COST * 100}, 60, Rng((0,)))
    assert taken[:6].sum() == 3 and set(taken[:6]) == {0.0, 1.0}  # 30 of 60: three documents
    assert sorted(taken[6:]) == [2.0, 2.0, 3.0]  # 30 of 12: two rounds, and once more 4 of the 6 that are left
    most = Mixture({"code": 1}, most=2).weigh({"domain": DOMAIN, "bytes": COST}, 60, Rng((0,)))
    assert most.tolist() == [0.0] * 6 + [2.0] * 3
    alike = Mixture().weigh({"domain": DOMAIN, "bytes": COST}, 24, Rng((0,)))
    assert alike[6:].tolist() == [1.0] * 3 and alike[:6].sum() == 1


def test_property_no_domain_passes_its_share_nor_a_document_the_limit():
    for seed in range(100):
        draw = np.random.default_rng(seed)
        costs, domain = draw.integers(1, 50, 40), draw.choice(["a", "b", "c"], 40).astype(object)
        weights, budget = {"a": 1.0, "b": float(draw.uniform(0.1, 9))}, float(draw.integers(10, 4000))
        taken = Mixture(weights, most=3).weigh({"domain": domain, "bytes": costs}, budget, Rng((seed,)))
        assert np.array_equal(taken, Mixture(weights, most=3).weigh({"domain": domain, "bytes": costs}, budget, Rng((seed,))))
        assert taken.max() <= 3 and not taken[domain == "c"].any()
        for name, weight in weights.items():
            here, share = domain == name, budget * weight / sum(weights.values())
            spent = (taken * costs)[here].sum()
            rest = [cost for cost, times in zip(costs[here], taken[here], strict=True) if times == taken[here].min()]
            assert spent <= share and (taken[here].min() == 3 or min(rest) > share - spent)


def test_unknown_domains_and_bad_weights_are_refused():
    with pytest.raises(BadInput, match="no document has the domain 'cod'; did you mean code"):
        Mixture({"cod": 1}).weigh({"domain": DOMAIN, "bytes": COST}, 60, Rng((0,)))
    for knobs in ({"weights": {}}, {"weights": {"a": 0}}, {"weights": {"a": 1}, "most": 0}):
        with pytest.raises(ValueError, match="must"):
            Mixture(**knobs)

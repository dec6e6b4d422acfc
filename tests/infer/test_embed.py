from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.infer.asks import Stopped
from bloomery.infer.embed import pooled
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

LENGTHS = (1, 3, 8, 9, 21, 0, 5)


@pytest.fixture(scope="module")
def net() -> Transformer:
    made = Transformer(Config(vocab=50, width=16, layers=2, heads=2, kv_heads=2, ffn=24, context=8)).eval()
    for p in made.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng(("embed",))))
    return made


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 50, n).tolist() for n in LENGTHS]


@torch.no_grad()
def by_hand(net: Transformer, ids: list[int], weights: list[float]) -> np.ndarray:
    """The pieces of a text one by one, each in a row of its own."""
    states = [net(torch.tensor([ids[at : at + 8]]))[0].double().numpy() for at in range(0, len(ids), 8)]
    return np.average(np.concatenate(states), axis=0, weights=weights)


def test_exact_a_weighted_mean_of_the_states_of_all_pieces(net, texts):
    weighted, mean = pooled(net, texts), pooled(net, texts, "mean")
    assert weighted.dtype == mean.dtype == np.float32 and weighted.shape == (len(texts), 16)
    for row, plain, ids in zip(weighted, mean, texts, strict=True):
        if not ids:
            assert not row.any() and not plain.any()
            continue
        assert row == pytest.approx(by_hand(net, ids, list(range(1, len(ids) + 1))), abs=1e-5)
        assert plain == pytest.approx(by_hand(net, ids, [1.0] * len(ids)), abs=1e-5)
    assert weighted[0] == pytest.approx(mean[0]) and abs(weighted[4] - mean[4]).max() > 1e-3


def test_property_neighbours_change_nothing_but_the_last_digits(net, texts):
    together = pooled(net, texts)
    assert np.array_equal(together, pooled(net, texts)), "the same texts, the same bits"
    alone = np.concatenate([pooled(net, [ids]) for ids in texts])
    assert abs(together - alone).max() < 1e-5
    many = pooled(net, texts * 200)  # more than one forward pass holds
    assert abs(many.reshape(200, len(texts), 16) - together).max() < 1e-5


def test_bad_input(net):
    with pytest.raises(BadInput, match="no pooling 'last'; known: weighted, mean"):
        pooled(net, [[1]], "last")
    with pytest.raises(BadInput, match="reads two texts"):
        pooled(SimpleNamespace(encoder=object()), [[1]])
    assert pooled(net, []).shape == (0, 16)


def test_what_nobody_waits_for_is_not_computed(net, texts):
    with pytest.raises(Stopped):
        pooled(net, texts, going=lambda: False)

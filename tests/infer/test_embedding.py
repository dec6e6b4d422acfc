"""Texts as vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.infer.embedding import embeddings
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng


@pytest.fixture(scope="module")
def net() -> Transformer:
    net = Transformer(Config(vocab=50, width=32, layers=2, heads=2, kv_heads=2, ffn=32, context=16))
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng((1, *p.shape))))
    return net.eval()


def test_exact_it_is_the_mean_of_the_hidden_states(net):
    ids = [3, 1, 4, 1, 5]
    with torch.inference_mode():
        mean_D = net(torch.tensor([ids]))[0].mean(0)
    assert embeddings(net, [ids])[0] == pytest.approx((mean_D / mean_D.norm()).numpy(), abs=1e-6)


def test_company_changes_nothing_and_the_beginning_counts(net):
    texts = [[i % 50 for i in range(k, k + 1 + k % 9)] for k in range(40)]
    together = embeddings(net, texts)
    assert together.shape == (40, 32) and np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(together - np.concatenate([embeddings(net, [one]) for one in texts])).max() < 1e-5
    long = list(range(40))
    assert embeddings(net, [long])[0] == pytest.approx(embeddings(net, [long[:16]])[0], abs=1e-6)
    with pytest.raises(BadInput, match="without tokens"):
        embeddings(net, [[1], []])

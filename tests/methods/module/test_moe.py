from __future__ import annotations

import pytest
import torch

from bloomery.methods.module.moe import MoE
from bloomery.nn.config import Config
from bloomery.nn.model import FeedForward, Transformer
from bloomery.nn.modules import fit
from bloomery.seams import Rng, Site

CFG = Config(vocab=61, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32)
AT = Site("mlp", "blocks.0.mlp", 0, 1)
X = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))


def mixture(**knobs):
    torch.manual_seed(0)
    return MoE(**knobs).build(CFG, AT, FeedForward(CFG), Rng((0,)))


@pytest.mark.parametrize("normalised", [True, False])
def test_each_token_gets_the_weighted_sum_of_its_experts(normalised):
    m = mixture(experts=5, top=2, normalised=normalised)
    want = torch.zeros_like(X)
    for b, row in enumerate(X):
        for t, x in enumerate(row):
            probs = torch.softmax(m.router.weight @ x, 0)
            best = probs.argsort(descending=True)[:2]
            total = probs[best].sum() if normalised else 1.0
            want[b, t] = sum(probs[i] / total * m.experts[i](x[None])[0] for i in best)
    torch.testing.assert_close(m(X), want, rtol=1e-4, atol=1e-6)


def test_one_expert_is_a_plain_feed_forward_and_all_of_equal_weights_are_too():
    m = mixture(experts=1, top=1)
    torch.testing.assert_close(m(X), m.experts[0](X))
    m = mixture(experts=3, top=3)
    for expert in m.experts:
        expert.load_state_dict(m.experts[0].state_dict())
    torch.testing.assert_close(m(X), m.experts[0](X))


def test_the_pass_tells_probabilities_and_choices_of_every_layer():
    net = Transformer(CFG)
    fit(net, [MoE(4, 2)], Rng((0,)))
    aux = {}
    net(torch.arange(12).view(2, 6), aux=aux)
    assert len(aux["router"]) == 2
    for probs, chosen in aux["router"]:
        assert probs.shape == (2, 6, 4) and chosen.shape == (2, 6, 2) and probs.dtype == torch.float32 and chosen.dtype == torch.int64
        torch.testing.assert_close(probs.sum(-1), torch.ones(2, 6))
        assert probs.requires_grad and torch.equal(chosen, probs.topk(2).indices)


def test_experts_are_drawn_apart_and_as_wide_as_the_feed_forward_was():
    torch.manual_seed(0)
    old = FeedForward(Config(vocab=61, width=64, layers=2, heads=4, kv_heads=2, ffn=96, context=32))
    m = MoE(3, 2).build(Config(vocab=61, width=64, layers=2, heads=4, kv_heads=2, ffn=96, context=32), AT, old, Rng((0,)))
    weights = [expert.down.weight for expert in m.experts]
    assert weights[0].shape == (64, 48) and not torch.equal(weights[0], weights[1])
    assert weights[0].std().item() == pytest.approx(old.down.weight.std().item(), rel=0.05)
    m(torch.randn(2, 40, 64)).square().sum().backward()
    assert m.router.weight.grad.any() and all(expert.down.weight.grad.any() for expert in m.experts)
    for knobs in ({"top": 9}, {"top": 0}, {"ffn": -1}):
        with pytest.raises(ValueError, match="must"):
            MoE(**knobs)

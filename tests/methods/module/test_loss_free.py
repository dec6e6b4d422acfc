"""Balancing by a bias: the update by hand, even loads on a skewed stream, nothing of it in a gradient."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bloomery.methods.module.loss_free import LossFree
from bloomery.methods.module.low_rank import LowRank
from bloomery.methods.module.moe import MoE
from bloomery.nn.config import Config
from bloomery.nn.mixture import Mixture
from bloomery.nn.model import Transformer
from bloomery.nn.modules import before_step, fit
from bloomery.nn.saving import load, plain, save
from bloomery.seams import Clock, Rng
from bloomery.train.loop import counted

torch.set_num_threads(1)
CFG = Config(61, 16, 2, 2, 1, 24, 32, experts=8, top=2, dense_layers=(0,))
CLOCK = Clock(0, 0, 1, None)


def net(cfg: Config = CFG, **knobs) -> Transformer:
    made = Transformer(cfg, Rng((1,))).train()
    fit(made, [LossFree(**{"inner": MoE(8, 2), **knobs})], Rng((0,)))
    return made


def skewed(step: int) -> torch.Tensor:
    """Tokens that have most of themselves in common, so that a router finds the same experts likely for nearly all of them."""
    g = torch.Generator().manual_seed(step)
    return torch.randn(4, 64, 16, generator=g) + 2.0 * torch.randn(16, generator=torch.Generator().manual_seed(99))


def excess(load: torch.Tensor) -> float:
    return float(load.max() / load.float().mean()) - 1.0


def test_a_bias_moves_by_the_rate_against_the_load_of_the_step_before():
    m = net(rate=0.5).blocks[1].mlp
    m.load += torch.tensor([4, 0, 0, 0, 0, 2, 1, 1])
    LossFree(inner=MoE(), rate=0.5).before_step(m, CLOCK, Rng((0,)))
    assert m.bias.tolist() == [-0.5, 0.5, 0.5, 0.5, 0.5, -0.5, 0.0, 0.0] and not m.load.any()


def test_ranks_that_see_other_tokens_move_the_biases_by_the_loads_of_all():
    """Each by its own alone, and copies of one model would send tokens to different experts."""

    class Two:
        many = True

        def add(self, counts):
            counts["load"] += torch.tensor([0, 9, 0, 0, 0, 0, 0, 0])  # what the other rank has counted

    made, method = net(rate=0.5), LossFree(inner=MoE(), rate=0.5)
    m = made.blocks[1].mlp
    m.load += torch.tensor([4, 0, 0, 0, 0, 2, 1, 1])
    counted(SimpleNamespace(net=made, mesh=Two()))
    method.before_step(m, CLOCK, Rng((0,)))
    assert m.bias.tolist() == [-0.5, -0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    Two.many = False
    m.load += 1
    counted(SimpleNamespace(net=made, mesh=Two()))
    assert m.load.tolist() == [1] * 8


def test_a_skewed_stream_is_spread_evenly_by_the_biases_alone():
    m, method = net().blocks[1].mlp, LossFree(inner=MoE(), rate=0.003)
    with torch.no_grad():
        m.router.weight.mul_(5)
    before, found = {name: p.clone() for name, p in m.named_parameters()}, []
    for step in range(300):
        m(skewed(step))
        found.append(excess(m.load))
        assert int(m.load.sum()) == 4 * 64 * 2  # each token has its two experts, however full these are
        method.before_step(m, CLOCK, Rng((0,)))
    assert min(found[:5]) > 2.0 and sum(found[-20:]) / 20 < 0.35, (found[:5], found[-5:])
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in m.named_parameters())


def test_the_biases_are_no_parameters_and_the_update_leaves_gradients_alone():
    made = net()
    row = torch.arange(60).view(2, 30)
    loss = made.logits(made(row)).square().mean()
    wanted = torch.autograd.grad(loss, list(made.parameters()), retain_graph=True)
    before_step(made.fitted, CLOCK, Rng((0,)))
    assert made.blocks[1].mlp.bias.any() and not made.blocks[1].mlp.bias.requires_grad
    for one, other in zip(wanted, torch.autograd.grad(loss, list(made.parameters())), strict=True):
        assert torch.equal(one, other)


def test_it_takes_the_models_own_mixtures_or_builds_them(tmp_path):
    own = net()
    assert type(own.blocks[0].mlp) is not Mixture and own.blocks[0].mlp is not own.blocks[1].mlp
    assert [site.name for site, _, _ in own.fitted] == ["blocks.1.mlp"]
    built = net(Config(61, 16, 2, 2, 1, 24, 32))
    assert [len(block.mlp.experts) for block in built.blocks] == [8, 8]
    own.blocks[1].mlp.bias += torch.arange(8) * 0.3
    save(own.eval(), tmp_path)
    back = load(tmp_path)
    assert back.blocks[1].mlp.bias.equal(own.blocks[1].mlp.bias) and plain(back).keys() == plain(own).keys()
    assert torch.equal(back(torch.arange(9)[None]), own(torch.arange(9)[None]))


def test_what_is_no_mixture_is_refused():
    from bloomery.core.errors import BadInput

    with pytest.raises(ValueError, match="above 0"):
        LossFree(inner=MoE(), rate=0.0)
    with pytest.raises(BadInput, match="builds no mixture of experts"):
        net(Config(61, 16, 2, 2, 1, 24, 32), inner=LowRank())

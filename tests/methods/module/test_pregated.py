from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from bloomery.methods.module.moe import MoE
from bloomery.methods.module.pregated import PreGated
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.seams import Rng

CFG = Config(vocab=61, width=16, layers=3, heads=4, kv_heads=2, ffn=24, context=32)
IDS = torch.arange(12).view(2, 6)


def made(cfg=CFG, inner=None):
    net = Transformer(cfg, Rng((1,)))
    fit(net, [PreGated(inner or MoE(4, 2))], Rng((0,)))
    return net.eval()


def inputs_of_mlps(net):
    """What each layer's mixture reads in a pass, and its choice."""
    aux, seen, hooks = {}, [], []
    for block in net.blocks:
        hooks.append(block.mlp.register_forward_pre_hook(lambda m, args: seen.append(args[0])))
    net(IDS, aux=aux)
    for hook in hooks:
        hook.remove()
    return seen, [chosen for _, chosen in aux["router"]]


def test_exact_each_layer_goes_where_the_layer_before_says():
    net = made()
    gates = [block.mlp.router for block in net.blocks]
    seen, chosen = inputs_of_mlps(net)
    wanted = [seen[0] @ gates[0].own.T, seen[0] @ gates[0].ahead.T, seen[1] @ gates[1].ahead.T]
    for scores, found in zip(wanted, chosen, strict=True):
        assert torch.equal(scores.softmax(-1).topk(2).indices, found)
    assert gates[1].own is gates[2].own is gates[2].ahead is None


def test_exact_with_one_expert_or_one_layer_it_is_the_mixture():
    for cfg, inner in ((CFG, MoE(1, 1)), (Config(61, 16, 1, 4, 2, 24, 32), MoE(4, 2))):
        plain = Transformer(cfg, Rng((1,)))
        fit(plain, [inner], Rng((0,)))
        assert torch.equal(made(cfg, inner)(IDS), plain.eval()(IDS))


def test_property_the_choice_is_known_before_the_layer_runs_and_learns_through_it():
    net, order = made().train(), []
    for number, block in enumerate(net.blocks):
        block.mlp.router.register_forward_hook(lambda gate, args, out, n=number: order.append(("told", n, gate.told is not None)))
        block.mixer.register_forward_hook(lambda *_, n=number: order.append(("mixed", n)))
    net.logits(net(IDS)).square().mean().backward()
    assert order == [("mixed", 0), ("told", 0, True), ("mixed", 1), ("told", 1, True), ("mixed", 2), ("told", 2, False)]
    assert all(gate.grad.any() for block in net.blocks for gate in block.mlp.router.parameters())
    copy = deepcopy(net)
    assert copy.blocks[1].mlp.router.before[0] is copy.blocks[0].mlp.router
    assert torch.equal(copy(IDS), net(IDS))


def test_a_model_with_experts_keeps_them_and_begins_with_its_routers():
    net = Transformer(Config(61, 16, 3, 4, 2, 24, 32, experts=4, top=2), Rng((1,)))
    routers = [block.mlp.router.weight for block in net.blocks]
    before = [block.mlp.experts for block in net.blocks]
    fit(net, [PreGated(MoE())], Rng((0,)))
    gates = [block.mlp.router for block in net.blocks]
    assert [gates[0].own, gates[0].ahead, gates[1].ahead] == routers
    assert [block.mlp.experts for block in net.blocks] == before


def test_layers_out_of_turn_are_refused():
    net = made()
    with pytest.raises(RuntimeError, match="one after the other"):
        net.blocks[1].mlp(torch.zeros(1, 3, 16))

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core.catalog import build_method
from bloomery.core.errors import BadInput
from bloomery.methods.adapter.lora import Lora
from bloomery.nn.lora import LoraLinear
from bloomery.seams import Rng, Site

QKV = [("q", 24), ("k", 8), ("v", 8)]
SITE = Site("linear", "blocks.0.mixer.qkv", 0, 1)


def linear(inputs: int = 16, outputs: int = 40) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=False)


def test_the_wrapped_linear_is_that_of_the_installed_peft():
    """The same A and B in PEFT's own layer: outputs, gradients and merged weights agree."""
    from peft import LoraConfig, get_peft_model

    for rslora in (False, True):
        ours = Lora(4, 6.0, rslora=rslora).wrap(linear(), Site("linear", "x.up", 0, 1), [("up", 40)], None, Rng((1,)))
        nn.init.normal_(ours.b["up"])
        theirs = get_peft_model(nn.Sequential(linear()), LoraConfig(target_modules=["0"], r=4, lora_alpha=6, use_rslora=rslora))
        layer = theirs.base_model.model[0]
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(ours.a["up"])
            layer.lora_B["default"].weight.copy_(ours.b["up"])
        x = torch.randn(9, 16)
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
        ours(x).square().sum().backward()
        theirs(x).square().sum().backward()
        assert torch.allclose(ours.a["up"].grad, layer.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-3)
        assert torch.allclose(ours.b["up"].grad, layer.lora_B["default"].weight.grad, rtol=1e-4, atol=1e-3)
        assert torch.allclose(Lora().merge(ours).weight, theirs.merge_and_unload()[0].weight, atol=1e-6)


def test_it_starts_where_the_model_is_and_merges_into_a_plain_linear():
    base, x = linear(), torch.randn(5, 16)
    before = base(x)
    unit = Lora(4).wrap(base, SITE, QKV, None, Rng((0,)))
    assert torch.equal(unit(x), before) and torch.equal(Lora().merge(unit).weight, base.weight)
    again = Lora(4).wrap(linear(), SITE, QKV, 0.5, Rng((0,)))
    assert all(torch.equal(p, again.state_dict()[name]) for name, p in unit.state_dict().items())
    assert not torch.equal(unit.a["q"], unit.a["k"])
    assert Lora().merge(base) is None


def test_targets_are_parts_of_fused_linears():
    unit = Lora(4, targets=("q", "v")).wrap(linear(), SITE, QKV, None, Rng((0,)))
    assert [part.rank for part in unit.parts] == [4, 0, 4] and set(unit.a) == {"q", "v"}
    assert Lora(targets=("up",)).wrap(linear(), SITE, QKV, None, Rng((0,))) is None
    assert Lora().wrap(nn.LayerNorm(4), Site("norm", "norm", -1, 1), (), None, Rng((0,))) is None
    assert Lora().wrap(linear(), Site("head", "head", -1, 1), (), None, Rng((0,))) is None
    whole = [("qkv", 40)]
    assert isinstance(Lora(targets=("q", "k", "v")).wrap(linear(), SITE, whole, None, Rng((0,))), LoraLinear)
    with pytest.raises(BadInput, match="all of them or none"):
        Lora(targets=("q", "v")).wrap(linear(), SITE, whole, None, Rng((0,)))
    pair = [("gate_up", 40)]  # as Phi-3 has it
    assert isinstance(Lora().wrap(linear(), SITE, pair, None, Rng((0,))), LoraLinear)
    with pytest.raises(BadInput, match="keeps gate and up in one matrix"):
        Lora(targets=("q", "up")).wrap(linear(), SITE, pair, None, Rng((0,)))


def test_any_linear_of_any_module_can_be_wrapped():
    unit = Lora(2, targets="all").wrap(linear(), Site("linear", "encoder.fc1", 0, 1), (), None, Rng((0,)))
    assert unit.parts[0].name == "fc1" and unit(torch.ones(1, 16)).shape == (1, 40)


def test_knobs_out_of_range_and_as_recipes_give_them():
    for knobs in ({"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": ()}, {"targets": "q"}, {"targets": ("q", "lm_head")}):
        with pytest.raises(ValueError, match="must be"):
            Lora(**knobs)
    assert build_method("adapter", {"lora": {"targets": "all", "rank": 3}}, "here") == Lora(3, targets="all")
    assert build_method("adapter", {"lora": {"targets": ["q"]}}, "here") == Lora(targets=("q",))

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.methods.adapter.lora import Lora
from bloomery.methods.adapter.perp import Perp
from bloomery.nn import peft
from bloomery.nn.config import Config
from bloomery.nn.lora import LoraLinear
from bloomery.nn.model import Transformer
from bloomery.nn.sites import sites
from bloomery.rewrite.adapters import adapted, attach, detach, merge
from bloomery.seams import Rng
from bloomery.train.audit import Audit
from bloomery.train.optimizer import Optimizer

torch.set_num_threads(1)
TOKENS = torch.arange(16)[None]
GPT2 = {"norm": "layer", "positions": "learned", "gated": False, "activation": "gelu_tanh", "architecture": "gpt2"}
GPT2 |= {"qkv_bias": True, "out_bias": True, "mlp_bias": True}


def make(tied: bool = True, **more) -> Transformer:
    return Transformer(Config(64, 32, 2, 4, more.pop("kv_heads", 2), 48, 16, tied=tied, **more), Rng((3,)))


def logits(net: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return net.logits(net(TOKENS))


def test_nothing_changes_but_what_learns():
    net = make()
    before, frozen = logits(net), {name: p.clone() for name, p in net.named_parameters()}
    names = attach(net, Lora(2, targets=("q", "gate", "up", "o")), Rng((0,)))
    assert names == [f"blocks.{i}.{name}" for i in range(2) for name in ("mixer.qkv", "mixer.out", "mlp.gate_up")]
    assert torch.equal(logits(net), before)
    learns = {name for name, p in net.named_parameters() if p.requires_grad}
    assert learns == {f"{name}.{x}.{part}" for name in names for x in "ab" for part in net.get_submodule(name).a}
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 2 * 2 * (64 + 64 + 80 + 80)
    again = make()
    attach(again, Lora(2, targets=("q", "gate", "up", "o")), Rng((0,)))
    assert all(torch.equal(p, again.state_dict()[name]) for name, p in net.state_dict().items())
    assert not torch.equal(net.blocks[0].mixer.qkv.a["q"], net.blocks[1].mixer.qkv.a["q"])

    mover = Optimizer(net, Adam(), Rng((0,)), dtype=torch.float32)
    audit = Audit(net, mover)
    for step in range(1, 4):
        net.logits(net(TOKENS)).square().mean().backward()
        audit.gradients(mover.collect())
        mover.step(1e-2, step)
        audit.after_step()
    assert audit.verdict["silent"] == audit.verdict["unmoved"] == audit.verdict["moved"] == []
    learned = logits(net)
    assert not torch.allclose(learned, before, atol=1e-3)
    assert merge(net, Lora()) == [] and adapted(net) == []
    assert torch.allclose(logits(net), learned, atol=1e-5)
    for name, p in net.named_parameters():
        assert torch.equal(p, frozen[name]) == (name.removesuffix(".weight") not in names), name


@dataclass(frozen=True)
class Adam:
    """The plain sign of a gradient, enough to move everything."""

    scope = "element"

    def init(self, like):
        return {}

    def direction(self, g, p, s, t, rng):
        return g.sign()


def test_detached_it_is_the_base_again():
    net = make()
    before = logits(net)
    names = attach(net, Lora(2), Rng((0,)))
    nn.init.ones_(net.blocks[1].mlp.down.b["down"])
    assert not torch.equal(logits(net), before)
    assert detach(net) == names and torch.equal(logits(net), before) and not any(isinstance(m, LoraLinear) for m in net.modules())


def test_one_matrix_for_q_k_and_v_takes_one_adapter():
    net = make(kv_heads=4, **GPT2)
    before = logits(net)
    names = attach(net, Lora(2), Rng((0,)))
    assert len(names) == 8 and [part.name for part in net.blocks[0].mixer.qkv.parts] == ["qkv"] and torch.equal(logits(net), before)
    for name in names:
        for b in net.get_submodule(name).b.values():
            nn.init.normal_(b, std=0.1)
    wanted = logits(net)
    assert merge(net, Lora()) == [] and torch.allclose(logits(net), wanted, atol=1e-5) and not torch.allclose(wanted, before, atol=1e-2)


def test_what_else_is_trained_is_named():
    for tied, also, wanted in (
        (True, ("embed",), {"embed.weight"}), (False, ("head", "norms"), {"head.weight", "norm.weight", "blocks.0.mixer_norm.weight",
         "blocks.1.mixer_norm.weight", "blocks.0.mlp_norm.weight", "blocks.1.mlp_norm.weight"}), (False, (), set()),
    ):  # fmt: skip
        net = make(tied)
        attach(net, Lora(2), Rng((0,)), also)
        assert {name for name, p in net.named_parameters() if p.requires_grad and ".a." not in name and ".b." not in name} == wanted


@dataclass(frozen=True)
class Doubled:
    """An adapter that cannot be merged into some linears."""

    def wrap(self, unit, site, parts, score, rng):
        return nn.Sequential(unit, nn.Identity()) if site.layer == 1 else None

    def merge(self, unit):
        return unit[0] if unit[0].in_features == 48 else None


def test_what_cannot_be_merged_stays_and_is_named():
    net = make()
    before = logits(net)
    assert len(attach(net, Doubled(), Rng((0,)))) == 4
    assert merge(net, Doubled()) == ["blocks.1.mixer.qkv", "blocks.1.mixer.out", "blocks.1.mlp.gate_up"] == adapted(net)
    assert torch.equal(logits(net), before)


def test_bad_wishes_are_refused():
    net = make()
    for also, word in ((("head",), "its embedding"), (("wheels",), "'wheels'")):
        with pytest.raises(BadInput, match=word):
            attach(net, Lora(), Rng((0,)), also)
    attach(net, Lora(), Rng((0,)))
    with pytest.raises(BadInput, match="already"):
        attach(net, Lora(), Rng((0,)))
    with pytest.raises(BadInput, match="no matrix"):
        attach(make(kv_heads=4, **GPT2), Lora(targets=("gate",)), Rng((0,)))


def test_a_model_with_an_encoder_is_refused():
    with pytest.raises(BadInput, match="without an encoder"):
        attach(make(encoder_layers=1), Lora(rank=2), Rng((1,)))


@pytest.mark.parametrize("adapter", [Lora(2), Perp(2)])
def test_every_linear_of_every_expert_learns_and_is_folded_in(adapter, tmp_path):
    net = make(architecture="mixtral", experts=2, top=2, shared_ffn=8)
    before, names = logits(net), attach(net, adapter, Rng((0,)))
    assert names == [site.name for site, _ in sites(make(architecture="mixtral", experts=2, top=2, shared_ffn=8)) if site.kind == "linear"]
    assert torch.equal(logits(net), before)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1) if p.requires_grad else None
    learned = logits(net)
    assert not torch.allclose(learned, before, atol=1e-3)
    if isinstance(adapter, Lora):
        peft.save(net, tmp_path, "base")
        other = make(architecture="mixtral", experts=2, top=2, shared_ffn=8)
        peft.apply(other, tmp_path)
        assert torch.equal(logits(other), learned)
    assert merge(net, adapter) == [] and torch.allclose(logits(net), learned, atol=1e-5)

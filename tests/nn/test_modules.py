"""Modules are fitted, saved, rebuilt, taken out again, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.infer.decoder import Decoder
from bloomery.methods.init.scaled_normal import ScaledNormal
from bloomery.methods.module.low_rank import LowRank
from bloomery.methods.module.matformer import MatFormer
from bloomery.methods.module.mix_ln import MixLN
from bloomery.methods.module.moe import MoE
from bloomery.methods.module.sltrain import SLTrain
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.modules import before_step, buffers, exported, fit
from bloomery.nn.saving import assemble, load, plain, save
from bloomery.nn.sites import sites
from bloomery.seams import Clock, Rng, Source

CFG = Config(vocab=61, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32)
ALL = [[SLTrain(4, 0.1)], [LowRank(4)], [MatFormer()], [MixLN(0.5)], [MoE(4, 2)], [MixLN(), MoE(3, 1), SLTrain(4, 0.1)]]


def net(cfg: Config = CFG) -> Transformer:
    made = Transformer(cfg)
    ScaledNormal().apply(Source(net=made), (), None, Rng((0, "init")))
    return made


def fitted(methods: list, cfg: Config = CFG) -> Transformer:
    made = net(cfg)
    fit(made, methods, Rng((3, "modules")))
    for p in made.parameters():  # as training leaves them: no factor is zero
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())), alpha=0.02)
    return made.eval()


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 61, shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("methods", ALL, ids=lambda found: "+".join(type(one).__name__ for one in found))
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_is_rebuilt_bit_for_bit(tmp_path, methods, tied):
    made = fitted(methods, replace(CFG, tied=tied))
    save(made, tmp_path)
    back, row = load(tmp_path), ids(2, 9)
    assert plain(back).keys() == plain(made).keys() and all(t.equal(plain(back)[name]) for name, t in plain(made).items())
    assert torch.equal(made.logits(made(row)), back.logits(back(row)))
    assert [(site, type(m), method) for site, m, method in back.fitted] == [(s, type(m), method) for s, m, method in made.fitted]
    assert {name for name, _ in back.named_parameters()} == {name for name, _ in made.named_parameters()}
    weights = {name: p.detach() for name, p in made.named_parameters()} | buffers(made)
    again = assemble(made.cfg, weights, torch.float32, tmp_path)
    assert torch.equal(again(row), made(row))


@pytest.mark.parametrize("methods", ALL, ids=lambda found: "+".join(type(one).__name__ for one in found))
def test_decoding_with_a_cache_is_the_model(methods):
    made, row = fitted(methods), ids(1, 6)

    class Words:
        def decode(self, ids, **_):
            return " ".join(map(str, ids))

    found = Decoder(made, Words()).generate([row[0].tolist()], limit=4)[0].ids
    for token in found:
        assert int(made.logits(made(row))[0, -1].argmax()) == token
        row = torch.cat([row, torch.tensor([[token]])], dim=1)


@pytest.mark.parametrize("method", [SLTrain(4, 0.1), LowRank(4), MatFormer()], ids=lambda method: type(method).__name__)
def test_a_plain_copy_computes_the_same_and_can_be_written_for_others(tmp_path, method):
    made, row = fitted([method]), ids(2, 9)
    copy = exported(made)
    assert not copy.fitted and copy.cfg == CFG and made.fitted
    assert {name: p.shape for name, p in copy.named_parameters()} == {name: p.shape for name, p in net().named_parameters()}
    torch.testing.assert_close(copy(row), made(row), rtol=0, atol=1e-5)
    to_hf(copy, None, tmp_path)
    with pytest.raises(BadInput, match="modules of its own"):
        to_hf(made, None, tmp_path)
    untouched = net()
    assert exported(untouched) is untouched


@pytest.mark.parametrize("method", [MixLN(), MoE(4, 2)], ids=lambda method: type(method).__name__)
def test_what_no_plain_model_computes_is_refused_by_name(method):
    with pytest.raises(BadInput, match=r"blocks\.\d.* is a module of (mix_ln|moe), which has no plain form"):
        exported(fitted([method]))


def test_sites_of_replaced_modules_are_found_under_their_names():
    for methods in ALL:
        made = fitted(methods)
        assert all(made.get_submodule(site.name) is module for site, module in sites(made))
        names = {site.name for site, _ in sites(made)}
        assert {site.name for site, _, _ in made.fitted} <= names
        assert {"blocks.0.mixer.qkv", "blocks.1.mlp", "blocks.1.mlp_norm"} <= names
    assert "blocks.0.mlp.down" not in {site.name for site, _ in sites(fitted([MoE(4, 2)]))}


@dataclass(frozen=True)
class Halved:
    """Halves a linear's weight; steps are written down."""

    layer: int = 0  # whose linears
    site = "linear"

    def build(self, cfg, site, old, rng):
        if site.layer != self.layer:
            return None
        new = nn.Linear(old.in_features, old.out_features, bias=False)
        new.weight = nn.Parameter(old.weight.detach() / 2)
        new.seen = []
        return new

    def before_step(self, m, clock, rng):
        m.seen.append((clock.step, rng))


def test_a_method_of_any_package_is_named_by_its_path_and_sees_every_step():
    made = net()
    found = fit(made, [Halved(layer=1)], Rng((0,)))
    assert {site.layer for site, _, _ in found} == {1} and len(found) == 4
    assert made.cfg.modules == ({f"{__name__}.Halved": {"layer": 1}},)
    assert made.blocks[1].mlp.down.weight.equal(net().blocks[1].mlp.down.weight / 2)
    before_step(found, Clock(7, 0, 1, None), Rng((1,)))
    assert [m.seen for _, m, _ in found] == [found[0][1].seen] * 4 and found[0][1].seen[0][0] == 7


def test_what_does_not_fit_is_refused():
    @dataclass(frozen=True)
    class Odd:
        site = "head"

    made = fitted([MatFormer()])
    with pytest.raises(BadInput, match="has modules of a recipe already"):
        fit(made, [LowRank()], Rng((0,)))
    with pytest.raises(BadInput, match=r"low_rank and sltrain both take blocks\.0\.mixer\.qkv"):
        fit(net(), [LowRank(), SLTrain()], Rng((0,)))
    with pytest.raises(BadInput, match=r"matformer at blocks\.0\.mlp: it is no plain feed-forward"):
        fit(net(), [LowRank(), MatFormer()], Rng((0,)))
    with pytest.raises(BadInput, match="modules take one of"):
        fit(net(), [Odd()], Rng((0,)))
    made.blocks[0].mlp.width = 3
    with pytest.raises(BadInput, match="3, 24 units"):
        exported(made)

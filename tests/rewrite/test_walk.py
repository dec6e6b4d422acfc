"""Experts see the tokens that chose them, those that none chose see their layer's; encoders come before decoders."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from loud import CFG, model, texts
from torch import nn

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.infer.parity import parity
from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.rtn import RTN
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.nn.packed import Quantized
from bloomery.nn.saving import digest, save
from bloomery.nn.sites import sites
from bloomery.rewrite import passing
from bloomery.rewrite.compress import compress
from bloomery.rewrite.survey import halves
from bloomery.rewrite.walk import measured, relative
from bloomery.seams import Rng

torch.set_num_threads(1)
MIXED = dataclasses.replace(CFG, architecture="mixtral", experts=4, top=2)


def by_hand(net: Transformer, method, sequences) -> dict[str, int]:
    """Solve one linear at a time on the inputs that whole passes through the model as it then is bring to it; rows of each."""
    rows = {}
    for name in [site.name for site, _ in sites(net) if site.kind == "linear"]:
        unit, acc, seen = net.get_submodule(name), {}, []

        def look(_, given, acc=acc, seen=seen):
            method.collect(acc, given[0].reshape(-1, given[0].shape[-1]), None, None)
            seen.append(len(given[0].reshape(-1, given[0].shape[-1])))

        handle = unit.register_forward_pre_hook(look)
        with torch.no_grad():
            for ids in sequences:
                run(net, ids)
        handle.remove()
        net.set_submodule(name, method.solve(unit, acc, {}, None, None))
        rows[name] = sum(seen)
    return rows


def run(net: Transformer, ids: torch.Tensor) -> torch.Tensor:
    if net.encoder is None:
        return net.logits(net(ids[None]))[0]
    source, target = halves(ids[None])
    return net.logits(net(target, source_BT=source))[0]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("working", [2 << 30, 1 << 16], ids=["one batch", "several"])
def test_every_expert_is_calibrated_on_the_tokens_that_chose_it(monkeypatch, working, ragged):
    monkeypatch.setattr(passing, "WORKING", working)
    net, wanted, method, sequences = model(MIXED), model(MIXED), GPTQ(bits=8, group=16), texts(shortest=4 if ragged else 24)
    outcome = compress(net, method, sequences)
    rows = by_hand(wanted, method, sequences)
    found = {layer.name: layer.rows for layer in outcome.layers}
    assert found.keys() == rows.keys() and found["blocks.0.mlp.experts.0.down"] == found["blocks.0.mlp.experts.0.gate_up"]
    assert sum(outcome.coverage()["blocks.0.mlp"]) == 2 * sum(map(len, sequences)) and len(outcome.coverage()["blocks.1.mlp"]) == 4
    for name, count in rows.items():  # a token near two experts may turn to another when sums are made in another order
        assert abs(found[name] - count) <= 0.02 * count + 2, name
    assert "blocks.0.mlp.router" in outcome.skipped
    ours, theirs = (torch.stack([run(one, ids).mean(0) for ids in sequences]).detach() for one in (net, wanted))
    assert float((ours - theirs).norm() / theirs.norm()) < 0.02


@pytest.mark.parametrize("working", [2 << 30, 1 << 16], ids=["one batch", "several"])
def test_an_expert_that_no_token_chose_is_calibrated_on_its_layer_and_named(monkeypatch, working):
    monkeypatch.setattr(passing, "WORKING", working)
    net = model(dataclasses.replace(MIXED, top=1))
    router = net.blocks[0].mlp.router.weight.data
    router[1] = router[[0, 2, 3]].mean(0)  # a mean is never the largest
    before = net.blocks[0].mlp.experts[1].gate_up.weight.clone()
    seen = {}
    solve = GPTQ.solve

    def watched(self, unit, acc, *rest):
        seen[id(unit)] = acc["rows"]
        return solve(self, unit, acc, *rest)

    monkeypatch.setattr(GPTQ, "solve", watched)
    unit = net.blocks[0].mlp.experts[1].gate_up
    outcome = compress(net, GPTQ(8, 16), texts(shortest=24))
    coverage = outcome.coverage()["blocks.0.mlp"]
    assert coverage[1] == 0 and sum(coverage) == 12 * 24
    small = net.blocks[0].mlp.experts[1]
    assert isinstance(small.gate_up, Quantized) and isinstance(small.down, Quantized)
    assert seen[id(unit)] > 100, "it has seen its layer's tokens"
    assert 0 < float((small.gate_up.weight - before).detach().norm() / before.detach().norm()) < 0.02
    assert all(isinstance(unit, Quantized) for site, unit in sites(net) if site.kind == "linear")


def test_counts_of_experts_stay_in_their_places_where_one_is_left_out():
    outcome = compress(model(MIXED), RTN(8), texts(), skip=("blocks.0.mlp.experts.1.*", "blocks.1.mlp.*"))
    (told,) = outcome.coverage().values()
    rows = {layer.name: layer.rows for layer in outcome.layers}
    assert told == [None if i == 1 else rows[f"blocks.0.mlp.experts.{i}.down"] for i in range(4)]


@pytest.mark.parametrize("working", [2 << 30, 1 << 16], ids=["one batch", "several"])
def test_an_encoder_comes_before_its_decoder(monkeypatch, working):
    monkeypatch.setattr(passing, "WORKING", working)
    cfg = dataclasses.replace(CFG, kv_heads=4, architecture="t5", encoder_layers=2, positions="relative")
    net, wanted, method, sequences = model(cfg), model(cfg), GPTQ(bits=8, group=16), texts(shortest=4)
    outcome = compress(net, method, sequences)
    by_hand(wanted, method, sequences)
    names = [layer.name for layer in outcome.layers]
    assert len(names) == 2 * 4 + 2 * 7 and names[0] == "encoder.blocks.0.mixer.qkv" and names[8] == "blocks.0.mixer.qkv"
    assert all(type(unit) is Quantized for site, unit in sites(net) if site.kind == "linear")
    ours, theirs, source = (torch.cat([run(one, ids) for ids in sequences]).detach() for one in (net, wanted, model(cfg)))
    assert float((ours - theirs).norm()) < 0.3 * float((theirs - source).norm()) < 0.05 * float(source.norm())


def test_an_encoder_alone_sees_no_padding():
    cfg = dataclasses.replace(CFG, causal=False, architecture="bert", kv_heads=4)
    net, wanted, sequences = model(cfg), model(cfg), texts(shortest=4)
    compress(net, RTN(8), sequences)
    by_hand(wanted, RTN(8), sequences)
    assert digest(net) == digest(wanted)
    source = model(cfg)
    assert parity(lambda ids: run(source, ids), lambda ids: run(net, ids), sequences).agreement > 0.9


def test_blocks_with_a_window_get_their_own_positions():
    cfg = dataclasses.replace(CFG, causal=False, architecture="modernbert", kv_heads=4, windows=(0, 8), local_rope_base=100.0)
    net, wanted, sequences = model(cfg), model(cfg), texts(shortest=24)
    compress(net, GPTQ(8, 16), sequences)
    by_hand(wanted, GPTQ(8, 16), sequences)
    ours, theirs = (torch.cat([run(one, ids) for ids in sequences]).detach() for one in (net, wanted))
    assert float((ours - theirs).norm() / theirs.norm()) < 0.01


def test_a_gate_computes_in_its_type_and_keeps_its_linear():
    from bloomery.rewrite.walk import Gate

    unit, seen = nn.Linear(4, 3), []
    gate = Gate(unit, "one", lambda gate, x: seen.append(x.dtype), torch.bfloat16).to(torch.bfloat16)
    assert gate(torch.ones(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16 == seen[0]
    assert unit.weight.dtype == torch.float32 and gate.unit is unit and not list(gate.parameters())


def test_experts_of_a_module_see_no_padding(monkeypatch):
    monkeypatch.setattr(passing, "BATCH", 48)
    net, sequences = model(), texts()
    fit(net, [catalog.build_method("module", {"moe": {"experts": 4, "top": 2}})], Rng((0,)))
    outcome = compress(net, GPTQ(8, 16), sequences)
    assert all(sum(rows) == 2 * outcome.tokens for rows in outcome.coverage().values()) and len(outcome.coverage()) == 2
    assert outcome.skipped["blocks.0.mlp.router"].startswith("the router")
    assert all(isinstance(unit, Quantized) for site, unit in sites(net) if site.kind == "linear")


def test_linears_that_are_never_called_are_named_and_stay(tmp_path):
    net, source = model(), model()
    for one in (net, source):
        fit(one, [catalog.build_method("module", "matformer")], Rng((0,)))
    outcome = compress(net, GPTQ(8, 16), texts(), rest=torch.float16)
    assert [layer.name for layer in outcome.layers] == [f"blocks.{i}.mixer.{name}" for i in range(2) for name in ("qkv", "out")]
    for name in [f"blocks.{i}.mlp.{name}" for i in range(2) for name in ("gate_up", "down")]:
        assert outcome.skipped[name] == "no calibration input reached it"
        assert net.get_submodule(name).weight.equal(source.get_submodule(name).weight.half().float())
    save(net, tmp_path, outcome.skipped, torch.float16)


def test_layers_that_hand_things_on_are_refused():
    net = model()
    fit(net, [catalog.build_method("module", "pregated")], Rng((0,)))
    with pytest.raises(BadInput, match="with pregated hand things on"):
        compress(net, RTN(), texts())


def test_an_error_over_nothing_is_no_number():
    zero, one = torch.zeros(3), torch.ones(3)
    assert relative(zero, zero) == 0.0 and relative(one, zero) is None and relative(one, 2 * one) == 0.5
    found = measured("a", nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False), torch.zeros(4, 3))
    assert found.error == 0.0 and found.weight_error > 0
    empty, small = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    nn.init.zeros_(empty.weight)
    found = measured("a", empty, small, torch.ones(4, 3))
    assert found.error is None and found.weight_error is None

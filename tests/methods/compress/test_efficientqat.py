"""Codes that are trained: nothing changes without passes, each phase lowers what it is to lower, and the end leaves codes alone."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.compress.efficientqat import EfficientQAT, descend
from bloomery.methods.compress.rtn import RTN
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Quantized
from bloomery.rewrite.compress import compress
from bloomery.seams import Rng

CFG = Config(vocab=40, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=24)
TEXT = [torch.randint(0, 40, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (24, 24, 24, 20, 17, 9)]


def net_of() -> Transformer:
    net = Transformer(CFG, Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(4.0) if p.dim() > 1 else None
    return net.eval()


def units(net: Transformer) -> dict[str, Quantized]:
    return {name: unit for name, unit in net.named_modules() if isinstance(unit, Quantized)}


def after(method: EfficientQAT) -> tuple[Transformer, object]:
    net = net_of()
    return net, compress(net, method, TEXT)


def block_error(net: Transformer) -> float:
    """Squares of the change of the first block's outputs."""
    source, total = net_of(), 0.0
    for ids in TEXT:
        outs = []
        for one in (source, net):
            one.blocks[0].register_forward_hook(lambda _, given, out, outs=outs: outs.append(out))
            with torch.no_grad():
                one(torch.tensor([ids]))
            one.blocks[0]._forward_hooks.clear()
        total += float((outs[0] - outs[1]).square().sum())
    return total


def nats(net: Transformer) -> float:
    from bloomery.rewrite.survey import measuring

    return measuring(net, TEXT)({})


def test_without_passes_it_is_rounding():
    ours, _ = after(EfficientQAT(3, 16, passes=0, end=0))
    plain = net_of()
    compress(plain, RTN(3, 16, symmetric=False), TEXT)
    assert all(unit.weight.equal(plain.get_submodule(name).weight) for name, unit in units(ours).items()) and len(units(ours)) == 8


def test_training_a_block_brings_its_outputs_nearer_and_what_is_stored_is_what_was_trained():
    rounded, _ = after(EfficientQAT(2, 16, passes=0, end=0))
    trained, outcome = after(EfficientQAT(2, 16, passes=20, rate=1e-3, end=0, batch=2))
    assert block_error(trained) < 0.6 * block_error(rounded)
    assert all(unit.weight.equal(unit.packed.dense()) and not unit.weight.requires_grad for unit in units(trained).values())
    first = next(layer for layer in outcome.layers if layer.name == "blocks.0.mlp.down")
    source = net_of().blocks[0].mlp.down.weight
    change = trained.blocks[0].mlp.down.weight - source
    assert first.weight_error == pytest.approx(float(change.norm() / source.norm()), rel=1e-4) and first.rows > 0
    norms = {name: p for name, p in net_of().named_parameters() if "norm" in name or "embed" in name}
    assert all(p.equal(trained.get_parameter(name)) and p.requires_grad for name, p in norms.items())


def test_a_block_that_is_skipped_is_passed_by_both_streams():
    found = []
    for passes in (0, 20):
        net = net_of()
        compress(net, EfficientQAT(2, 16, passes=passes, rate=1e-3, end=0, batch=2), TEXT, skip=["blocks.0.*"])
        assert set(units(net)) == {name for name in units(net) if name.startswith("blocks.1.")}
        with torch.no_grad():
            pairs = [(net(torch.tensor([ids])), net_of()(torch.tensor([ids]))) for ids in TEXT]
        found.append(sum(float((a - b).square().sum()) for a, b in pairs))
    assert found[1] < 0.6 * found[0]


def test_the_end_changes_scales_alone_and_lowers_the_loss():
    blocks, _ = after(EfficientQAT(2, 16, passes=4, end=0, batch=2))
    both, _ = after(EfficientQAT(2, 16, passes=4, end=20, end_rate=3e-3, batch=2))
    for name, unit in units(both).items():
        other = blocks.get_submodule(name).packed
        assert unit.packed.codes_OI.equal(other.codes_OI) and unit.packed.zero_OG.equal(other.zero_OG)
        assert not unit.packed.scale_OG.equal(other.scale_OG)
    assert nats(both) < nats(blocks)


def test_it_is_deterministic_and_wants_the_whole_model_for_its_end(tmp_path):
    from bloomery.nn.parts import Parts
    from bloomery.nn.saving import save

    method = EfficientQAT(3, 16, passes=2, end=1)
    first, again = after(method)[0], after(method)[0]
    assert all(unit.weight.equal(again.get_submodule(name).weight) for name, unit in units(first).items())
    save(net_of(), tmp_path)
    with pytest.raises(ValueError, match="in memory"):
        compress(Parts(tmp_path, tmp_path / "work"), method, TEXT)
    parts, streamed = Parts(tmp_path, tmp_path / "work"), EfficientQAT(3, 16, passes=2, end=0)
    compress(parts, streamed, TEXT)
    small, whole = parts.small, units(after(streamed)[0])
    assert small.keys() == whole.keys()


def test_rates_fall_to_a_twentieth_and_nonsense_is_refused():
    p, seen = torch.nn.Parameter(torch.zeros(1)), []
    for knobs in ({"passes": -1}, {"rate": 0.0}, {"batch": 0}, {"bits": 1}):
        with pytest.raises(ValueError, match="must"):
            EfficientQAT(**knobs)

    def loss() -> torch.Tensor:
        seen.append(float(p))
        return -p.sum()

    descend([{"params": [p], "lr": 1.0}], [loss] * 100)
    moves = torch.tensor([*seen, float(p)]).diff()
    assert float(moves[0]) == pytest.approx(1.0, abs=1e-3) and 0.04 < float(moves[-1]) < 0.06


def test_errors_of_linears_are_those_after_the_end():
    net, outcome = after(EfficientQAT(2, 16, passes=1, end=20, end_rate=3e-2, batch=2))
    _, before = after(EfficientQAT(2, 16, passes=1, end=0, batch=2))
    for layer, earlier in zip(outcome.layers, before.layers, strict=True):
        source, small = net_of().get_submodule(layer.name), net.get_submodule(layer.name)
        x = inputs(net, layer.name)
        change, of = small(x) - source(x), source(x)
        assert layer.weight_error == pytest.approx(float((small.weight - source.weight).norm() / source.weight.norm()), rel=1e-4)
        assert layer.error == pytest.approx(float(change.norm() / of.norm()), rel=1e-4)
        assert (layer.rows, layer.bits) == (earlier.rows, earlier.bits) and layer.weight_error != earlier.weight_error


@torch.no_grad()
def test_errors_of_a_trained_block_are_those_of_tokens_and_not_of_padding():
    net, outcome = after(EfficientQAT(2, 16, passes=3, end=0, batch=2))
    first = outcome.layers[0]
    source, small = net_of().get_submodule(first.name), net.get_submodule(first.name)
    x = inputs(net_of(), first.name)
    assert first.error == pytest.approx(float((small(x) - source(x)).norm() / source(x).norm()), rel=1e-4)


@torch.no_grad()
def inputs(net: Transformer, name: str) -> torch.Tensor:
    """What a linear is given of all sequences, each alone: so few that none is left out of the measure."""
    rows = []
    handle = net.get_submodule(name).register_forward_hook(lambda _, given, out: rows.append(given[0][0]))
    for ids in TEXT:
        net(torch.tensor([ids]))
    handle.remove()
    return torch.cat(rows)

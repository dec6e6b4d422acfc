"""A look at the whole model: statistics in one pass, gradients, a measure with units in place, and budgets that are kept."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest
import torch
from loud import CFG, model, texts
from torch import nn
from torch.nn.functional import cross_entropy

from bloomery.core.errors import BadInput
from bloomery.methods.compress.bitstack import BitStack
from bloomery.methods.compress.cptquant import CPTQuant
from bloomery.methods.compress.gblm import GBLM
from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.rtn import RTN
from bloomery.methods.compress.smoothquant_plus import SmoothQuantPlus
from bloomery.methods.compress.wanda import Wanda
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Quantized
from bloomery.nn.saving import digest
from bloomery.nn.sites import sites
from bloomery.rewrite import survey as looking
from bloomery.rewrite.compress import compress, compress_linears
from bloomery.rewrite.survey import measuring, survey

torch.set_num_threads(1)
LINEARS = [f"blocks.{i}.{name}" for i in range(2) for name in ("mixer.qkv", "mixer.out", "mlp.gate_up", "mlp.down")]


@dataclass(frozen=True)
class Everything(RTN):
    """Keeps all rows that it is handed."""

    reads = ("x", "y", "g")

    def collect(self, acc, x, y, g):
        for name, rows in (("x", x), ("y", y), ("g", g)):
            acc.setdefault(name, []).append(rows)


@pytest.mark.parametrize("together", [2048, 30], ids=["one pass", "several"])
def test_statistics_and_gradients_are_those_of_each_sequence_alone(monkeypatch, together):
    monkeypatch.setattr(looking, "TOGETHER", together)
    net = model()
    found = survey(net, Everything(), texts(), LINEARS)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    outer = dict.fromkeys(LINEARS, 0.0)
    for ids in texts():
        cross_entropy(net.logits(net(ids[None, :-1]))[0], ids[1:], reduction="sum").backward()
    for name in LINEARS:
        x, y, g = (torch.cat(found[name][part]) for part in "xyg")
        unit = net.get_submodule(name)
        assert len(x) == len(y) == len(g) == sum(map(len, texts())) and torch.allclose(y, unit(x), atol=1e-4)
        outer[name] = g.T @ x
        assert torch.allclose(outer[name], unit.weight.grad, atol=2e-4 * float(unit.weight.grad.abs().max())), name


def test_a_method_that_reads_gradients_is_given_the_source_models_statistics():
    seen = []

    @dataclass(frozen=True)
    class Watching(Everything):
        def solve(self, unit, acc, knobs, fit, tail):
            seen.append(torch.cat(acc["g"]))
            return super().solve(unit, acc, knobs, fit, tail)

    net = model()
    wanted = survey(net, Watching(), texts(), LINEARS)
    outcome = compress(net, Watching(), texts())
    assert [layer.name for layer in outcome.layers] == LINEARS
    assert all(torch.cat(wanted[name]["g"]).equal(one) for name, one in zip(LINEARS, seen, strict=True))


def test_the_measure_is_the_loss_with_units_in_place_and_leaves_the_model_whole():
    net, before = model(), digest(model())
    measure = measuring(net, texts())

    @torch.no_grad()
    def by_hand(one: Transformer) -> float:
        total = sum(float(cross_entropy(one.logits(one(ids[None, :-1]))[0], ids[1:], reduction="sum")) for ids in texts())
        return total / sum(len(ids) - 1 for ids in texts())

    assert measure({}) == pytest.approx(by_hand(net), rel=1e-5)
    other = deepcopy(net)
    other.blocks[1].mlp.down.weight.data.zero_()
    assert measure({"blocks.1.mlp.down": other.blocks[1].mlp.down}) == pytest.approx(by_hand(other), rel=1e-5) != measure({})
    with pytest.raises(RuntimeError):
        measure({"blocks.0.mlp.down": nn.Linear(3, 3)})
    assert digest(net) == before


@pytest.mark.parametrize("bits", [2.2, 3.0])
def test_a_budget_is_kept_and_the_source_is_what_was_looked_at(bits):
    net = model()
    weights = sum(net.get_submodule(name).weight.numel() for name in LINEARS)
    stats = survey(net, BitStack(), texts(), LINEARS)
    method = BitStack(rank=1, blocks=6)
    outcome = compress(net, method, texts(), budget=bits * weights / 8)
    stored = {name: net.get_submodule(name).packed for name in LINEARS}
    used = sum(one.bytes for one in stored.values())
    assert used <= bits * weights / 8 < used + max(one.block_bytes for one in stored.values())
    assert {one.blocks for one in stored.values()} <= {1, 2, 3} and all(layer.bits == stored[layer.name].bits for layer in outcome.layers)
    wanted = method.stack(model().blocks[1].mlp.down, stats["blocks.1.mlp.down"], 6).first(stored["blocks.1.mlp.down"].blocks)
    assert stored["blocks.1.mlp.down"].dense().equal(wanted.dense()), "blocks do not depend on the budget"


def test_knobs_reach_their_unit_and_strange_names_are_refused():
    @dataclass(frozen=True)
    class Allots(RTN):
        names: tuple = field(default=tuple(LINEARS[:1]))

        def allocate(self, stats, units, budget, measure):
            assert list(units) == LINEARS and list(stats) == LINEARS and budget == float("inf") and measure({}) > 0
            return {name: {"bits": 8} for name in self.names}

        def solve(self, unit, acc, knobs, fit, tail):
            return RTN(4).solve(unit, acc, knobs, fit, tail)

    assert [layer.bits for layer in compress(model(), Allots(), texts()).layers] == [8] + 7 * [4]
    with pytest.raises(ValueError, match=r"Allots allots to blocks\.9\.up"):
        compress(model(), Allots(names=("blocks.9.up",)), texts())
    chain = nn.Sequential(nn.Linear(3, 3))
    for method in (Allots(), Everything()):
        with pytest.raises(BadInput, match="which only `compress` of a model offers"):
            compress_linears(chain, method, [lambda: chain(torch.ones(1, 3))])
    with pytest.raises(BadInput, match="GPTQ divides no budget"):
        compress(model(), GPTQ(), texts(), budget=1000.0)


@pytest.fixture
def starved() -> tuple[Transformer, str]:
    """A model of experts, one of which no token chooses, and what that one is called."""
    net = model(replace(CFG, architecture="mixtral", experts=4, top=1))
    router = net.blocks[0].mlp.router.weight.data
    router[1] = router[[0, 2, 3]].mean(0)  # a mean is never the largest
    return net, "blocks.0.mlp.experts.1"


def test_an_expert_that_no_token_chose_is_told_its_layers_tokens_and_that_the_loss_minds_nothing(starved):
    net, expert = starved
    names = [site.name for site, _ in sites(net) if site.kind == "linear"]
    found = survey(net, Everything(), texts(), names)
    for part in ("gate_up", "down"):
        x, y, g = (torch.cat(found[f"{expert}.{part}"][one]) for one in "xyg")
        assert len(x) == len(y) == len(g) == sum(map(len, texts())) and not g.any()
        assert torch.allclose(y, net.get_submodule(f"{expert}.{part}")(x), atol=1e-4)
    others = torch.cat([torch.cat(found[f"blocks.0.mlp.experts.{i}.down"]["g"]) for i in (0, 2, 3)])
    assert len(others) == sum(map(len, texts())) and others.any()


@pytest.mark.parametrize(
    "method", [GBLM(), CPTQuant(GPTQ(4, 16)), SmoothQuantPlus(4, 16, tried=2), BitStack(rank=1, blocks=2, sort="error")]
)
def test_methods_that_look_at_the_whole_model_know_what_to_do_with_it(starved, method):
    net, expert = starved
    wanted = Wanda().solve(net.get_submodule(f"{expert}.gate_up"), seen(net, expert), {}, None, None)
    outcome = compress(net, method, texts())
    assert outcome.coverage()["blocks.0.mlp"][1] == 0 and all(isinstance(net.get_submodule(one.name), Quantized) for one in outcome.layers)
    if isinstance(method, GBLM):
        same = net.get_submodule(f"{expert}.gate_up").weight == wanted.weight
        assert float(same.float().mean()) > 0.99, "as Wanda on the tokens of its layer, but for sums in another order"


def seen(net: Transformer, expert: str) -> dict:
    """What Wanda collects of the inputs of an expert's whole layer."""
    acc: dict = {}
    layer = net.get_submodule(expert.rpartition(".experts")[0])
    handle = layer.register_forward_pre_hook(lambda _, given: Wanda().collect(acc, given[0].flatten(0, -2), None, None))
    with torch.no_grad():
        for ids in texts():
            net(ids[None])
    handle.remove()
    return acc

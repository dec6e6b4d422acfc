import gc
import weakref

import pytest
import torch
from small_engine import WARM, WORDS, asks_of, idle, make, run

from bloomery.core.errors import BadInput
from bloomery.core.machine import compiler
from bloomery.infer import compiled
from bloomery.infer.compiled import fitting, worthwhile
from bloomery.infer.dense import Plain, halves
from bloomery.infer.engine import Engine
from bloomery.infer.fetching import Fetcher
from bloomery.infer.pages import FIRST
from bloomery.infer.slots import Slots
from bloomery.infer.speculation import PromptLookup
from bloomery.infer.weights import pack
from bloomery.infer.windowed import Windowed, write

torch.set_num_threads(1)
FORMS = ("", "bf16", "int8", "w8a8", "int4", "w4a8")


def test_compiling_is_left_where_it_does_not_pay(monkeypatch):
    net = make()
    monkeypatch.setattr(compiled, "compiler", lambda: "g++")
    assert not worthwhile(None, net)[0] and "it pays from 20M" in worthwhile(None, net)[1]
    monkeypatch.setattr(compiled, "PAYS_FROM", 1e3)
    assert worthwhile(None, net)[0] and worthwhile(True, net) == (True, "as asked")
    assert worthwhile(False, net) == (False, "compiling was not asked for")
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    assert worthwhile(None, net) == (False, "there is no C++ compiler")
    with pytest.raises(BadInput, match="no C\\+\\+ compiler"):
        worthwhile(True, net)
    assert fitting(1, (8, 1)) == 1 and fitting(2, (8, 1)) == 8


@pytest.mark.parametrize("what", ["experts", "neurons"])
def test_a_model_of_which_a_part_lies_on_disk_is_not_compiled(what, monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "compiler", lambda: "g++")
    monkeypatch.setattr(compiled, "PAYS_FROM", 1)
    if what == "experts":
        net, other = make(experts=3, top=2), make(experts=3, top=2)
        parts = Fetcher(net, lambda place: dict(other.blocks[place[0]].mlp.experts[place[1]].named_parameters()))
    else:
        net = make(activation="relu", gated=False)
        write(net, tmp_path)
        parts = Windowed(net, tmp_path)
    assert worthwhile(None, net)[0]
    with parts:
        assert worthwhile(None, net) == (False, "a part of the model lies on disk")
        with pytest.raises(BadInput, match="a part of the model lies on disk, which eager steps alone read"):
            Engine(net, WORDS, compiled=True)
    assert worthwhile(None, net)[0]


@pytest.mark.parametrize(("exact", "guess"), [(True, None), (False, PromptLookup(2, 2, 1))], ids=["exact", "guessing"])
def test_traced_steps_write_what_eager_ones_write(exact, guess, monkeypatch):
    """The graph that is compiled, run operation by operation, which takes a compiler no time; and it is made when the engine starts."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    monkeypatch.setattr(compiled, "compiler", lambda: "g++")
    net = make(context=48, layers=2, windows=(0, 9), score_cap=4.0)
    with Engine(net, WORDS, slots=3, queue=20) as engine:
        plain = [[one.end() for one in run(engine, asks_of(filters))] for filters in ((), WARM)]
    with Engine(net, WORDS, slots=3, queue=20, compiled=True, exact=exact, guess=guess) as engine:
        assert engine.compile_seconds > 0
        torch._dynamo.utils.counters.clear()
        found = [[one.end() for one in run(engine, asks_of(filters))] for filters in ((), WARM)]
        assert idle(engine) and not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    same(found, plain)


def same(found, plain, away=1e-5):
    for ours, theirs in zip(found, plain, strict=True):
        assert [one.ids for one in ours] == [one.ids for one in theirs]
        for one, want in zip(ours, theirs, strict=True):
            assert [token.logp for token in one.tokens] == pytest.approx([token.logp for token in want.tokens], abs=away)


def stepped(net, ids=(5, 9)):
    """Compiled steps of a network, and what one of a row for each of these tokens gives."""
    slots = Slots(net.cfg, 6, 48, net.embed.weight.dtype, exact=False)
    slots.memory.wipe(list(range(slots.book.count)))  # as pages are when they are taken
    steps = compiled.Compiled(net, slots, slots.memory)
    steps.prepare([len(ids)])
    return steps, step(steps, ids)


def step(steps, ids, pages=2):
    """Logits of first tokens, each in pages of its own."""
    table = FIRST + torch.arange(len(ids) * pages).view(len(ids), pages)
    with torch.no_grad():
        return steps._call(torch.tensor(ids)[:, None], table, torch.zeros(len(ids), dtype=torch.int64))


def test_graphs_of_networks_alike_are_told_apart(monkeypatch):
    """Little is asked before a step, so it must not be another network's graph that runs; other shapes make graphs of their own."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    one, other = make(context=48), make(context=48)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    (steps, first), (_, second) = stepped(one), stepped(other)
    assert not torch.allclose(first, second, atol=1e-2)
    with torch.no_grad():
        torch.testing.assert_close(first, one.logits(one(torch.tensor([[5], [9]]))))
        torch.testing.assert_close(second, other.logits(other(torch.tensor([[5], [9]]))))
    torch._dynamo.utils.counters.clear()
    torch.testing.assert_close(step(steps, [5, 9, 5])[:2], first)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(step(steps, [5, 9], pages=4), first)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_nothing_outlives_an_engine_and_its_model(monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    gone("")


def gone(weights):
    net = make(context=48)
    if weights:
        pack(net.bfloat16(), weights)
    steps, _ = stepped(net)
    held = [weakref.ref(one) for one in (*tensors(net), *steps.slots.memory.keys, *[call.made for call in steps._many.calls.values()])]
    assert len(steps._many.calls) == 1
    del net, steps
    gc.collect()
    assert not [one for one in held if one() is not None]


def test_a_mixture_goes_through_the_compiler(monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    net = make(context=48, experts=3, top=2)
    steps, _ = stepped(net)
    with torch.no_grad():
        expected = net.logits(net(torch.tensor([[5]])))
    steps.prepare([1])
    torch.testing.assert_close(step(steps, [5]), expected)


@pytest.mark.parametrize("of", [Plain, compiled.Blocked, None])
@pytest.mark.parametrize("weights", FORMS)
def test_networks_of_graphs_share_all_tensors(weights, of):
    net = make(context=48, width=64, ffn=64, vocab=320, tied=True)
    if weights:
        pack(net.bfloat16() if weights == "bf16" else net, weights, group=32)
    other = compiled._swapped(net, of)
    mine, theirs = ({one.data_ptr() for one in tensors(some)} for some in (net, other))
    assert mine == theirs and len(mine) > 5 and other is not net
    if not weights:
        rows = torch.tensor([[5, 9, 11]])
        with torch.no_grad():
            torch.testing.assert_close(other.logits(other(rows)), net.logits(net(rows)))


def test_what_takes_blocks_in_graphs_of_many_rows():
    assert compiled.in_blocks(make()) == torch.backends.mkldnn.is_available()
    assert not compiled.in_blocks(make(experts=3, top=2)) and not compiled.in_blocks(make().bfloat16())


def tensors(net):
    """All that a network and its parts hold, but for tensors of the compiler's or library's own kinds, which have no place."""
    held = (one for unit in net.modules() for one in (*vars(unit).values(), *unit._parameters.values(), *unit._buffers.values()))
    return [one for one in held if isinstance(one, torch.Tensor) and one.layout == torch.strided]


@pytest.mark.wide
@pytest.mark.skipif(compiler() is None or not halves(torch.bfloat16), reason="there is no C++ compiler, or no bfloat16 in hardware")
def test_weights_of_many_rows_are_constants_in_blocks():
    net = make(context=48)
    pack(net.bfloat16(), "bf16")
    torch._dynamo.utils.counters.clear()
    torch._inductor.utils.clear_caches()
    with torch._inductor.config.patch(force_disable_caches=True):
        stepped(net)
    assert torch._dynamo.utils.counters["inductor"]["mkldnn_linear_weight_pack_matcher_count"] == 4 * net.cfg.layers + 1


@pytest.mark.wide
@pytest.mark.skipif(compiler() is None or not halves(torch.bfloat16), reason="there is no C++ compiler, or no bfloat16 in hardware")
def test_constants_go_with_their_engine():
    gone("bf16")


@pytest.mark.wide
@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
def test_texts_longer_than_what_the_compiler_looked_at(monkeypatch):
    """It asks for another graph beyond 4,096 tokens, whose sums go in pieces; the call that was learned is not asked."""
    found = {}
    for backend in ("inductor", "aot_eager"):
        monkeypatch.setattr(compiled, "BACKEND", backend)
        net, pages = make(context=8192), 512
        slots = Slots(net.cfg, 2, 8192, torch.float32, exact=False)
        for one, keys in enumerate((*slots.memory.keys, *slots.memory.values)):
            keys.copy_(torch.randn(keys.shape, generator=torch.Generator().manual_seed(one)))
        steps = compiled.Compiled(net, slots, slots.memory)
        steps.prepare([1, 2])
        table = FIRST + torch.arange(2 * pages).view(2, pages)
        with torch.no_grad():
            for rows in (1, 2):
                tokens, first = torch.tensor([[5], [9]])[:rows], torch.tensor([8191, 6000])[:rows]
                found[backend, rows] = steps._call(tokens, table[:rows].clone(), first)
    for rows in (1, 2):
        torch.testing.assert_close(found["inductor", rows], found["aot_eager", rows], rtol=1e-4, atol=1e-4)


@pytest.mark.wide
@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("ids", [(5, 9), (5, 9, 11, 5, 300, 41)], ids=["two", "six"])
@pytest.mark.parametrize("weights", [*FORMS, "w4a8 wide", "int8 of fp32", "w8a8 of fp32", "int4 of fp32"])
def test_steps_of_many_rows_are_those_of_eager_ones(weights, ids, monkeypatch):
    """Whose weights are constants in the compiler's hands, which puts operations of its own choice in their places."""
    half = bool(weights) and "fp32" not in weights
    found = {}
    for backend in ("inductor", "aot_eager"):
        monkeypatch.setattr(compiled, "BACKEND", backend)
        torch._dynamo.reset()
        net = make(context=48, width=64, ffn=64, vocab=320).to(torch.bfloat16 if half else torch.float32)
        if weights:
            pack(net, weights.partition(" ")[0], group=32, wide="wide" in weights)
        _, found[backend] = stepped(net, ids)
    apart = (found["inductor"] - found["aot_eager"]).float().norm() / found["aot_eager"].float().norm()
    assert float(apart) < (3e-2 if half else 1e-5)


@pytest.mark.wide
@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("changes", [{}, {"windows": (9, 0), "qk_norm": True}, {"experts": 3, "top": 2}, {"positions": "learned"}])
@pytest.mark.parametrize("weights", FORMS)
def test_every_kind_of_step_compiles(changes, weights):
    net = make(context=48, width=64, ffn=64, vocab=320, **changes)
    if weights:
        net = net.bfloat16() if weights == "bf16" else net
        pack(net, weights, group=32)
    guess = PromptLookup(2, 2, 1)
    with Engine(net, WORDS, slots=3, queue=20, guess=guess) as engine:
        plain = [one.end() for one in run(engine, asks_of(()))]
    with Engine(net, WORDS, slots=3, queue=20, guess=guess, compiled=True, exact=False) as engine:
        found = [one.end() for one in run(engine, asks_of(()))]
    if weights == "bf16":  # rounded in another order
        assert sum(a.ids[:3] == b.ids[:3] for a, b in zip(found, plain, strict=True)) > len(plain) / 2
    else:
        same([found], [plain], 3e-2 if weights.endswith("a8") else 1e-5)  # an input that stands between two codes goes to either

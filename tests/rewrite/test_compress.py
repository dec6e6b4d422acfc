"""The walk through a model: sequential inputs, few passes, padding left out, and a trained model that GPTQ hurts less than rounding."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from loud import CFG, model, texts
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.infer.parity import parity
from bloomery.methods.compress.cptquant import CPTQuant
from bloomery.methods.compress.efficientqat import EfficientQAT
from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.lorc import LoRC
from bloomery.methods.compress.repq import RepQ
from bloomery.methods.compress.rtn import RTN
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Quantized
from bloomery.nn.saving import digest, load, save
from bloomery.nn.sites import sites
from bloomery.rewrite import passing
from bloomery.rewrite.attending import SEEN
from bloomery.rewrite.compress import compress, compress_linears
from bloomery.seams import Rng

torch.set_num_threads(1)
QWEN = dataclasses.replace(CFG, architecture="qwen3", qk_norm=True, head_width=16)
BIASES = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
GPT = dataclasses.replace(
    CFG, architecture="gpt2", norm="layer", positions="learned", gated=False, activation="gelu_tanh", kv_heads=4, **BIASES
)
LINEARS = [f"blocks.{i}.{name}" for i in range(2) for name in ("mixer.qkv", "mixer.out", "mlp.gate_up", "mlp.down")]


def by_hand(net: Transformer, method, sequences) -> Transformer:
    """Solve one linear at a time on the inputs that whole, unpadded passes through the model as it then is bring to it."""
    for name in LINEARS:
        unit, acc = net.get_submodule(name), {}
        handle = unit.register_forward_pre_hook(lambda _, given, acc=acc: method.collect(acc, given[0].flatten(0, 1), None, None))
        with torch.no_grad():
            for ids in sequences:
                net(ids[None])
        handle.remove()
        net.set_submodule(name, method.solve(unit, acc, {}, None, None))
    return net


@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("working", [2 << 30, 1 << 16], ids=["one batch", "several"])
def test_inputs_are_those_of_the_smaller_model_before_it(monkeypatch, working, ragged):
    monkeypatch.setattr(passing, "WORKING", working)
    sequences = texts(shortest=2 if ragged else 24)
    method = GPTQ(bits=8, group=16)
    seen = []
    monkeypatch.setattr(GPTQ, "solve", lambda self, unit, acc, *rest, _solve=GPTQ.solve: seen.append(acc) or _solve(self, unit, acc, *rest))
    net = model()
    outcome = compress(net, method, sequences)
    assert [layer.name for layer in outcome.layers] == LINEARS
    ours = list(seen)
    wanted = by_hand(model(), method, sequences)
    for mine, theirs in zip(ours, seen[len(ours) :], strict=True):
        assert mine["rows"] == theirs["rows"] == sum(map(len, sequences))
        assert torch.allclose(mine["hessian"], theirs["hessian"], rtol=2e-3, atol=2e-3 * float(theirs["hessian"].diagonal().mean()))
    ids = torch.arange(24)[None]
    assert torch.allclose(net(ids), wanted(ids), atol=0.05) and not torch.allclose(net(ids), model()(ids), atol=1e-6)


def test_one_batch_needs_one_pass(monkeypatch):
    calls = []
    net = model()
    net.blocks[1].mlp_norm.register_forward_hook(lambda *_: calls.append(1))
    compress(net, RTN(), texts())
    assert len(calls) == 1
    monkeypatch.setattr(passing, "WORKING", 1 << 16)
    several = model()
    compress(several, RTN(), texts())
    assert digest(several) == digest(net), "plain rounding does not depend on batches"


def test_errors_are_what_they_say_and_skipped_layers_keep_their_weights():
    net, source = model(), model()
    outcome = compress(net, RTN(bits=4, group=16), texts(), skip=("blocks.1.*", "*.down"))
    assert [layer.name for layer in outcome.layers] == LINEARS[:3]
    assert outcome.skipped["blocks.0.mlp.down"] == "skip: *.down" and outcome.skipped["blocks.1.mixer.qkv"] == "skip: blocks.1.*"
    assert outcome.skipped["head"] == "its weight is the embedding" and {"embed", "norm", "blocks.0.mlp_norm"} <= outcome.skipped.keys()
    for name in LINEARS[3:]:
        assert net.get_submodule(name).weight.equal(source.get_submodule(name).weight)
    layer, old, new = outcome.layers[0], source.blocks[0].mixer.qkv.weight, net.blocks[0].mixer.qkv.weight
    assert layer.weight_error == pytest.approx(float((new - old).detach().norm() / old.detach().norm()))
    rows = torch.cat([source.blocks[0].mixer_norm(source.embed(ids)) for ids in texts()])
    assert layer.error == pytest.approx(float((rows @ (new - old).T).detach().norm() / (rows @ old.T).detach().norm()), rel=1e-4)
    assert (layer.bits, layer.group) == (4, 16)


def test_the_rest_is_rounded_before_anything_is_calibrated():
    net, wide = model(), model()
    compress(net, RTN(), texts(), skip=("*.out",), rest=torch.float16)
    assert net.embed.weight.equal(wide.embed.weight.half().float()) and not net.embed.weight.equal(wide.embed.weight)
    assert net.blocks[0].mixer.out.weight.equal(wide.blocks[0].mixer.out.weight.half().float())
    wide.embed.weight.data[0, 0] = 1e6
    with pytest.raises(BadInput, match="too large"):
        compress(wide, RTN(), texts(), rest=torch.float16)


def test_bad_input_and_a_failing_method_leave_the_model_whole():
    with pytest.raises(BadInput, match="names no linear"):
        compress(model(), RTN(), texts(), skip=("mlp.donw",))
    with pytest.raises(BadInput, match="leaves no linear"):
        compress(model(), RTN(), texts(), skip=("*",))
    with pytest.raises(BadInput, match="no sequence"):
        compress(model(), RTN(), [])
    with pytest.raises(BadInput, match="the context is 24"):
        compress(model(), RTN(), [list(range(25))])

    with pytest.raises(BadInput, match="RTN divides no budget"):
        compress(model(), RTN(), texts(), budget=1e4)
    net = model()
    net.blocks[1].mixer.out = RTN().solve(net.blocks[1].mixer.out, {}, {}, None, None)
    with pytest.raises(BadInput, match="no plain linear"):
        compress(net, RTN(), texts())
    net = model()
    net.embed.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        compress(net, GPTQ(), texts())
    assert all(type(net.get_submodule(name)) is nn.Linear for name in LINEARS)
    net = model()
    net.blocks[1].mlp.down.weight.data[3, 5] = float("nan")
    with pytest.raises(BadInput, match=r"blocks\.1\.mlp\.down holds weights that are no finite numbers"):
        compress(net, RTN(), texts())


def test_an_inner_method_that_does_more_than_solve_is_refused():
    for inner, verb in ((EfficientQAT(), "settle"), (CPTQuant(GPTQ()), "allocate"), (RepQ(), "attend")):
        with pytest.raises(BadInput, match=f"inner: LoRC asks {type(inner).__name__} to solve linears and nothing more, so its {verb}"):
            compress(model(), LoRC(inner), texts())
    compress(model(), LoRC(GPTQ(8, 16)), texts())


def test_what_computes_with_whole_blocks_wants_them_in_float32():
    with pytest.raises(BadInput, match=r"RepQ computes with whole blocks in torch\.float32, and the model is in torch\.bfloat16"):
        compress(model().bfloat16(), RepQ(), texts())
    with pytest.raises(BadInput, match="precision: attention that rounds as RepQ finds is computed in float32"):
        compress(model(), RepQ(), texts(), precision=torch.bfloat16)
    net = model().bfloat16()
    compress(net, GPTQ(8, 16), texts())
    assert net.blocks[1].mlp.down.weight.dtype == torch.bfloat16


def test_training_after_bfloat16_passes_reads_what_the_encoder_made():
    net = model(dataclasses.replace(CFG, kv_heads=4, architecture="t5", encoder_layers=1, positions="relative"))
    outcome = compress(net, EfficientQAT(8, 16, passes=1, end=0), texts(shortest=4), precision=torch.bfloat16)
    assert len(outcome.layers) == 4 + 2 * 7 and all(layer.error < 0.5 for layer in outcome.layers)


def test_grids_of_attention_are_found_without_padding(monkeypatch):
    found = []
    monkeypatch.setattr(RepQ, "attend", lambda self, seen, _attend=RepQ.attend: found.append(seen) or _attend(self, seen))
    compress(model(), RepQ(8, 8), texts())
    longest = sorted(map(len, texts()), reverse=True)[:SEEN]
    assert len(set(longest)) > 1 and len(found) == CFG.layers
    for seen in found:
        assert [len(one["q"]) for one in seen] == longest and all(one["weights"].shape[1:] == (len(one["k"]),) * 2 for one in seen)
        assert all(torch.allclose(one["weights"].sum(-1), torch.ones(())) for one in seen)


@pytest.mark.parametrize("cfg", [QWEN, GPT], ids=["qwen3", "gpt2"])
def test_other_architectures_and_biases(cfg, tmp_path):
    net, source = model(cfg), model(cfg)
    for one in (net, source):
        for name, p in one.named_parameters():
            p.data += 0.1 if name.endswith(".bias") else 0
    compress(net, GPTQ(bits=8), texts())
    linears = [(unit, source.get_submodule(site.name)) for site, unit in sites(net) if site.kind == "linear"]
    assert len(linears) == 8
    for unit, old in linears:
        assert isinstance(unit, Quantized) and (unit.bias is None if cfg is QWEN else unit.bias.equal(old.bias))
    found = parity(lambda ids: source.logits(source(ids[None]))[0], lambda ids: net.logits(net(ids[None]))[0], texts())
    assert found.kl < 0.05
    save(net, tmp_path)
    assert digest(load(tmp_path)) == digest(net)


SHAPES = {
    "untied": {"tied": False}, "norms": {"qk_norm": True}, "bert": {"architecture": "bert", "causal": False, "positions": "learned"},
    "experts": {"architecture": "mixtral", "experts": 4, "shared_ffn": 16},
    "encoder and decoder": {"architecture": "t5", "encoder_layers": 1, "positions": "relative"},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_matrix_is_compressed_with_an_error_or_named_with_a_reason(name):
    net = Transformer(Config(**{**vars(CFG), "kv_heads": CFG.heads, **SHAPES[name]}), Rng((1,)))
    every = {one.rpartition(".")[0] for one, _ in net.named_parameters()}
    outcome = compress(net, GPTQ(bits=4, group=8), texts())
    made = {layer.name: layer for layer in outcome.layers}
    assert every <= made.keys() | outcome.skipped.keys() and not made.keys() & outcome.skipped.keys() and all(outcome.skipped.values())
    assert all(0 < layer.error < 1 and 0 < layer.weight_error < 1 and layer.rows > 0 for layer in made.values())
    assert all(len(rows) == 4 and sum(rows) == net.cfg.top * outcome.tokens for rows in outcome.coverage().values())
    assert bool(outcome.coverage()) == (name == "experts")


@pytest.mark.parametrize("runs", [1, 3])
def test_any_module_of_torch(runs):
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24), nn.LayerNorm(24), nn.Linear(24, 7))
    x = torch.randn(300, 24) @ torch.randn(24, 24)
    before = chain(x)

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.chain, self.unused = chain, nn.Linear(3, 3)

        def forward(self, x):
            return self.chain(x)

    net = Holder()
    outcome = compress_linears(net, GPTQ(bits=8, group=8), [lambda part=part: net(part) for part in x.chunk(runs)], skip=("chain.4",))
    assert [layer.name for layer in outcome.layers] == ["chain.0", "chain.2"]
    assert outcome.skipped == {"chain.4": "skip: chain.4", "unused": "no calibration input reached it"}
    assert 0 < float((net(x) - before).detach().norm() / before.detach().norm()) < 0.02


@pytest.fixture(scope="module")
def trained() -> tuple[Transformer, list[torch.Tensor], list[torch.Tensor]]:
    """A model that has learned to go on a noisy walk: each token is a fixed function of the two before it, nine times in ten."""
    g = torch.Generator().manual_seed(3)
    table = torch.randint(0, 61, (61, 7), generator=g)
    rows = torch.randint(0, 61, (640, 24), generator=g)
    for t in range(2, 24):
        follow = table[rows[:, t - 1], rows[:, t - 2] % 7]
        rows[:, t] = torch.where(torch.rand(640, generator=g) < 0.9, follow, rows[:, t])
    net = Transformer(CFG, Rng((0,)))
    mover = torch.optim.AdamW(net.parameters(), lr=6e-3, weight_decay=0.01)
    for step in range(150):
        batch = rows[(step * 64) % 512 : (step * 64) % 512 + 64]
        loss = nn.functional.cross_entropy(net.logits(net(batch[:, :-1])).flatten(0, 1), batch[:, 1:].flatten())
        mover.zero_grad()
        loss.backward()
        mover.step()
    assert loss.item() < 3.6, "it has learned something"
    return net.eval(), list(rows[:128]), list(rows[512:])


@pytest.mark.parametrize("knobs", [{}, {"symmetric": False}, {"group": -1}], ids=str)
def test_a_trained_model_loses_less_by_gptq_than_by_rounding(trained, knobs):
    from copy import deepcopy

    net, calibration, fresh = trained
    found = {}
    for method in (GPTQ(bits=4, **knobs), RTN(bits=4, **knobs)):
        small = deepcopy(net)
        compress(small, method, calibration)
        found[type(method).__name__] = parity(
            lambda ids: net.logits(net(ids[None]))[0], lambda ids, small=small: small.logits(small(ids[None]))[0], fresh
        )
    assert 0 < found["GPTQ"].kl < found["RTN"].kl

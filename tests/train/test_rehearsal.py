"""A rehearsal on tensors without numbers tells what a real step holds, to the byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bloomery.methods.adapter.lora import Lora
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.module.moe import MoE
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.optim.galore import GaLore
from bloomery.methods.optim.lion import Lion
from bloomery.methods.optim.muon import Muon
from bloomery.methods.saved.recompute import Recompute
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.rewrite.adapters import attach
from bloomery.seams import Rng
from bloomery.train import timing
from bloomery.train.optimizer import Optimizer
from bloomery.train.rehearsal import made_up, rehearse
from bloomery.train.saved import saving
from bloomery.train.shares import shares
from bloomery.train.tracing import tracing

CFG, ROWS, LOSS = Config(64, 32, 3, 4, 2, 48, 32), 2, CrossEntropy(16)


def dense(net: Transformer) -> None:
    pass


def mixture(net: Transformer) -> None:
    fit(net, (MoE(experts=4, top=2),), Rng((0, "moe")))


def adapted(net: Transformer) -> None:
    attach(net, Lora(rank=4), Rng((0, "lora")))


def maker(change: Callable[[Transformer], None], dtype: torch.dtype = torch.float32, method: object = None) -> Callable:
    def make() -> tuple[nn.Module, dict, Optimizer]:
        net = Transformer(CFG, Rng((0, "init")))
        change(net)
        return net, {}, Optimizer(net, method or AdamW(), Rng((0,)), 0.1, dtype, AdamW())

    return make


def kept_by_a_real_step(make: Callable, saved: object = None) -> int:
    """What Saving counts of one micro-batch on tensors with numbers."""
    net, _, mover = make()
    mover.stream()
    net.train()
    micro = made_up(ROWS, CFG.context)
    micro.inputs.random_(0, 64, generator=torch.Generator().manual_seed(0))
    micro.weights.fill_(1)
    watch = saving(net, saved)
    with watch:
        Autograd().backward(net, [micro], shares(LOSS, {"net": net}, [micro], Rng((0,))), Rng((0,)))
    return watch.peak_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", [dense, mixture, adapted])
def test_what_the_backward_pass_keeps_is_counted_to_the_byte(change: Callable, dtype: torch.dtype) -> None:
    make = maker(change, dtype)
    told = rehearse(make, LOSS, Autograd(), (1, ROWS, CFG.context))
    assert told.kept == kept_by_a_real_step(make) and told.passes > told.kept


@pytest.mark.parametrize("sites", [("mlp",), ("block",)])
def test_so_it_is_of_what_is_computed_twice(sites: tuple[str, ...]) -> None:
    saved, make = Recompute(sites), maker(dense)
    told = rehearse(make, LOSS, Autograd(), (1, ROWS, CFG.context), saved)
    assert told.kept == kept_by_a_real_step(make, saved)
    assert told.kept < rehearse(make, LOSS, Autograd(), (1, ROWS, CFG.context)).kept


@pytest.mark.parametrize("method", [AdamW(), Lion(), Muon(), GaLore(rank=4, inner=AdamW())])
def test_standing_memory_is_that_of_the_optimizer(method: object) -> None:
    make = maker(dense, torch.bfloat16, method)
    told, (net, _, mover) = rehearse(make, LOSS, Autograd(), (2, ROWS, CFG.context)), make()
    trained = sum(p.numel() for p in net.parameters())
    assert (told.masters, told.gradients, told.weights, told.frozen) == (4 * trained, 4 * trained, 2 * trained, 0)
    assert told.states == mover.state_bytes()
    assert told.checkpoint == sum(t.numel() * t.element_size() for t in mover.tensors().values())


def test_factors_of_an_init_on_the_rates_are_held_too() -> None:
    def make() -> tuple[nn.Module, dict, Optimizer]:
        net = Transformer(CFG, Rng((0, "init")))
        return net, {}, Optimizer(net, AdamW(), Rng((0,)), rates={"embed.weight": 0.5})

    told, plain = (rehearse(one, LOSS, Autograd(), (1, ROWS, CFG.context)) for one in (make, maker(dense)))
    assert told.masters == 2 * plain.masters and told.checkpoint == plain.checkpoint


def test_which_numbers_stay_zero_is_held_too() -> None:
    def make() -> tuple[nn.Module, dict, Optimizer]:
        net, roles, mover = maker(dense)()
        mover.keep_zeros()
        return net, roles, mover

    plain, step = (rehearse(one, LOSS, Autograd(), (1, ROWS, 32)) for one in (maker(dense), make))
    assert step.masters - plain.masters == CFG.parameters()


def test_frozen_weights_are_told_apart() -> None:
    told, (net, _, _) = rehearse(maker(adapted, torch.bfloat16), LOSS, Autograd(), (1, ROWS, CFG.context)), maker(adapted)()
    assert told.frozen == 2 * sum(p.numel() for p in net.parameters() if not p.requires_grad)
    assert told.masters == 4 * sum(p.numel() for p in net.parameters() if p.requires_grad)


def test_the_compiler_keeps_less_than_autograd() -> None:
    plain, fused = (rehearse(maker(dense), LOSS, Autograd(), (1, ROWS, CFG.context), None, compiled) for compiled in (False, True))
    assert fused.kept < plain.kept and fused.standing == plain.standing
    assert timing.products(fused.micro) >= timing.products(plain.micro)


def test_products_are_those_of_the_formula() -> None:
    told, tokens = rehearse(maker(dense), LOSS, Autograd(), (1, ROWS, CFG.context)), ROWS * CFG.context
    linear = sum(n * timing.flops(f, a) for (f, a, _, _), n in told.micro.items() if str(f).startswith("aten.mm"))
    assert linear == 6 * CFG.matmul_parameters() * tokens
    assert linear < timing.products(told.micro) < 2 * CFG.flops_per_token(CFG.context) * tokens


def test_memory_is_followed_as_it_comes_and_goes() -> None:
    with tracing() as trace:
        with trace.apart() as part:
            a = torch.zeros(1000)
            b = a * 2
            c = b[10:]
            del b
            assert trace.now == 8000
            del c
        assert (part.peak, part.after) == (8000, 4000)
        assert [size for _, size in part.events] == [4000, 4000, 0]
        del a
    assert trace.now == 0

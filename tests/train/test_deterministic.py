"""Deterministic mode: a run that is stopped after any step and goes on ends with the bits of one that was not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from small_run import CFG, curve, training

from bloomery.core.errors import Interrupted
from bloomery.methods.adapter.lora import Lora
from bloomery.methods.module.moe import MoE
from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.rewrite.adapters import attach
from bloomery.seams import Rng
from bloomery.train.deterministic import deterministic
from bloomery.train.loop import Training, train
from bloomery.train.optimizer import Optimizer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def plain(folder: Path, **changes) -> Training:
    return training(folder, **changes)


def four_micros(folder: Path, **changes) -> Training:
    run = training(folder, **changes)
    run.feed.micro = 1
    return run


def adapted(folder: Path, **changes) -> Training:
    net = Transformer(CFG, Rng((0, "init")))
    attach(net, Lora(rank=2, dropout=0.3), Rng((0, "lora")), also=("norms",))
    run = training(folder, net=net, optimizer=Optimizer(net, AdamW(), Rng((0,)), 0.0), **changes)
    run.feed.micro = 1
    return run


def mixture(folder: Path, **changes) -> Training:
    net = Transformer(CFG, Rng((0, "init")))
    fit(net, (MoE(experts=3, top=2),), Rng((0, "moe")))
    return training(folder, net=net, optimizer=Optimizer(net, AdamW(), Rng((0,)), 0.1, torch.bfloat16), **changes)


@pytest.mark.parametrize("made", [plain, four_micros, adapted, mixture])
def test_resumed_from_random_steps_it_ends_with_the_same_bits(tmp_path: Path, made) -> None:
    with deterministic(True):
        whole = made(tmp_path / "whole")
        done = train(whole)
        stops = sorted(random.Random(made.__name__).sample(range(1, done.clock.step), 3))
        for stop in stops:
            folder, polls = tmp_path / f"after-{stop}", iter(range(1, 100))
            with pytest.raises(Interrupted):
                train(made(folder, stopping=lambda polls=polls, stop=stop: next(polls) == stop))
            part = made(folder)
            last = train(part)
            assert last.resumed and last.loss == done.loss and curve(part) == curve(whole)
            assert all(torch.equal(part.optimizer.tensors()[name], t) for name, t in whole.optimizer.tensors().items())


def test_what_was_set_before_is_set_again() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), deterministic(True):
        assert torch.are_deterministic_algorithms_enabled() and not torch.utils.deterministic.fill_uninitialized_memory
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled() and torch.utils.deterministic.fill_uninitialized_memory
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()

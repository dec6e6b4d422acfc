"""float8: refused in one sentence where it cannot be; the conversion, with products emulated, where torchao is there."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import training

from bloomery.core.errors import BadInput
from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng
from bloomery.train import float8, precision
from bloomery.train.loop import train
from bloomery.train.optimizer import Optimizer

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is an extra")


def net() -> Transformer:
    return Transformer(Config(50, 32, 2, 2, 2, 40, 16), Rng((0, "init")))


def test_without_the_package_or_the_processor_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float8, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"torchao: pip install 'bloomery\[float8\]'"):
        precision.resolved("float8", "cuda")
    monkeypatch.setattr(float8, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"capability 8\.9"):
        precision.resolved("float8", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    with pytest.raises(BadInput, match=r"capability 8\.9"):
        precision.resolved("float8", "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert precision.resolved("float8", "cuda") == "float8" and precision.dtype("float8") is torch.bfloat16


def test_what_is_converted() -> None:
    named = [name for name, unit in net().named_modules() if float8.suits(unit, name)]
    parts = ("mixer.qkv", "mixer.out", "mlp.gate_up")  # 40, the width of the feed-forward, is no multiple of 16, and twice that is
    assert named == [f"blocks.{i}.{part}" for i in (0, 1) for part in parts]
    frozen = net().requires_grad_(False)
    assert not [name for name, unit in frozen.named_modules() if float8.suits(unit, name)]
    with pytest.raises(BadInput, match="multiples of 16"):
        float8.convert(Transformer(Config(50, 24, 1, 2, 2, 40, 16)), emulated=True)


@needs_torchao
def test_on_a_processor_the_products_are_not_made_silently() -> None:
    with pytest.raises(BadInput, match="on the cpu"):
        float8.convert(net())


@needs_torchao
def test_converted_and_back_the_parameters_are_the_same(tmp_path: Path) -> None:
    model, ids = net(), torch.arange(32).view(2, 16)
    before, plain = {name: id(p) for name, p in model.named_parameters()}, model(ids).detach()
    names = float8.convert(model, emulated=True)
    assert len(names) == 6 and {name: id(p) for name, p in model.named_parameters()} == before
    rounded = model(ids)
    rounded.square().sum().backward()
    away = float((rounded.detach() - plain).norm() / plain.norm())
    assert 1e-4 < away < 0.1 and all(p.grad is not None for p in model.blocks.parameters())
    float8.restore(model)
    assert torch.equal(model(ids), plain) and {name: id(p) for name, p in model.named_parameters()} == before


@needs_torchao
def test_a_run_learns_and_stays_close_to_bfloat16(tmp_path: Path) -> None:
    def run(folder: Path, rounded: bool) -> float:
        torch.set_num_threads(1)
        model = net()
        one = training(folder)
        one = replace(one, net=model, optimizer=Optimizer(model, AdamW(), Rng((0,)), 0.1, torch.bfloat16), evaluate=None)
        if rounded:
            float8.convert(model, emulated=True)
        done = train(one)
        assert not done.audit["silent"] and not done.audit["unmoved"]
        return done.loss

    one, other = run(tmp_path / "a", True), run(tmp_path / "b", False)
    assert one < 3.9 and abs(one / other - 1) < 0.02

"""Where a run trains. An accelerator is stood in for by one whose tensors have a device and no numbers, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.seams import Batch
from bloomery.train import device
from bloomery.train.precision import resolved
from bloomery.train.rehearsal import made_up

STEP = """
import sys
import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("accel")

from bloomery.core import catalog
from bloomery.methods.adapter.lora import Lora
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.saved.recompute import Recompute
from bloomery.nn.config import Config
from bloomery.nn.empty import emptied
from bloomery.nn.model import Transformer
from bloomery.rewrite.adapters import attach
from bloomery.seams import Rng
from bloomery.train.optimizer import Optimizer
from bloomery.train.rehearsal import rehearse

kind, precision, method = sys.argv[1:]
more = {"experts": {"experts": 4, "top": 2, "shared_ffn": 16, "architecture": "mixtral"}, "windows": {"windows": (8, 0, 8)}}.get(kind, {})
cfg = Config(64, 32, 3, 4, 2, 48, 32, **more)


def make():
    net = emptied(Transformer(cfg), "accel", torch.float32)
    if kind == "adapter":
        attach(net, Lora(rank=4), Rng((0, "lora")))
    rates = {name: 0.5 for name, _ in net.named_parameters()} if kind == "rates" else None
    found = catalog.build_method("optim", method)
    return net, {}, Optimizer(net, found, Rng((0,)), 0.1, getattr(torch, precision), AdamW(), rates)


step = rehearse(make, CrossEntropy(), Autograd(), (2, 2, 32), Recompute() if kind == "recompute" else None)
print(step.kept > 0 and step.masters > 0)
"""


@pytest.mark.parametrize(
    "kind, precision, method",
    [
        ("dense", "float32", "adamw"),
        ("dense", "bfloat16", "muon"),
        ("experts", "bfloat16", "adamw"),
        ("adapter", "float32", "lion"),
        ("recompute", "bfloat16", "galore"),
        ("rates", "float32", "adamw"),
        ("windows", "float32", "lion"),
    ],
)
def test_a_step_keeps_to_the_device_of_its_model(kind, precision, method):
    ran = subprocess.run([sys.executable, "-c", STEP, kind, precision, method], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "True", ran.stderr[-2000:]


def test_a_processor_needs_no_word_in_the_mode(monkeypatch):
    monkeypatch.setattr(device, "DRIVERS", ())
    assert device.mode("auto") == device.mode("cpu") == {}
    with pytest.raises(BadInput, match="cuda needs a GPU"):
        device.mode("cuda")


def test_a_gpu_is_taken_where_torch_has_one(monkeypatch):
    monkeypatch.setattr(device, "_has_cuda", lambda: True)
    assert (device.mode("auto"), device.mode("cpu")) == ({"device": "cuda"}, {})


@pytest.mark.parametrize("able, found", [(True, "bfloat16"), (False, "float32")])
def test_the_precision_is_that_of_the_device(monkeypatch, able, found):
    monkeypatch.setattr("bloomery.train.precision.multiplies_bf16", lambda: able)
    monkeypatch.setattr("bloomery.train.precision.has_bf16", lambda: not able)
    assert resolved("auto", "cuda") == found


def test_a_batch_goes_whole():
    batch = made_up(2, 8)
    assert device.on(batch, torch.device("cpu")) is batch
    there = device.on(batch, torch.device("meta"))
    assert isinstance(there, Batch)
    assert {t.device.type for t in vars(there).values() if isinstance(t, torch.Tensor)} == {"meta"}

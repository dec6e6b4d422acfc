"""What every adapter keeps to: it is deterministic, learns only its own numbers, and merges or says that it cannot."""

from __future__ import annotations

import pytest
import torch

from bloomery.core import catalog
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.rewrite.adapters import adapted, attach, merge
from bloomery.seams import Rng

TOKENS = torch.arange(16)[None]
every = pytest.mark.parametrize("name", list(catalog.entries("adapter")))


def net_of(name: str) -> tuple[Transformer, list[str]]:
    net = Transformer(Config(64, 32, 2, 4, 2, 48, 16), Rng((3,)))
    return net, attach(net, catalog.build_method("adapter", name), Rng((0, "contract")))


def logits(net: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return net.logits(net(TOKENS))


@every
def test_it_is_deterministic_and_the_base_is_frozen(name):
    (net, names), (again, _) = net_of(name), net_of(name)
    assert names and names == adapted(net)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    learns = [key for key, p in net.named_parameters() if p.requires_grad]
    assert learns and all(any(key.startswith(f"{one}.") for one in names) for key in learns)
    net.logits(net(TOKENS)).square().mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in net.parameters())


@every
def test_merged_it_computes_the_same(name):
    net, _ = net_of(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    before = logits(net.eval())
    left = merge(net, catalog.build_method("adapter", name))
    assert left == adapted(net) and torch.allclose(logits(net), before, atol=1e-4)

"""What every module keeps to: it fits, trains, is saved and rebuilt, generates, and comes out as a plain part where it says so."""

from __future__ import annotations

import pytest
import torch
from paged import in_portions

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.modules import KINDS, before_step, exported, fit
from bloomery.nn.saving import load, plain, save
from bloomery.seams import Clock, Rng

RNG = Rng((0, "contract"))
CFG = Config(64, 16, 2, 2, 1, 24, 32)
ROW = torch.arange(14).view(2, 7)
every = pytest.mark.parametrize("name", list(catalog.entries("module")))


def made(name: str, seed: int = 0) -> Transformer:
    net = Transformer(CFG)
    assert fit(net, [catalog.build_method("module", name)], RNG.child(seed))
    return net


@every
def test_equal_streams_build_equal_modules(name):
    assert catalog.entries("module")[name].class_vars["site"] in KINDS
    first, again = made(name), made(name)
    assert all(torch.equal(t, again.state_dict()[key]) for key, t in first.state_dict().items())
    assert all(torch.isfinite(p).all() for p in first.parameters())


@every
def test_every_parameter_is_trained_within_a_few_steps(name):
    net = made(name)
    missing = {key for key, p in net.named_parameters() if p.requires_grad}
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(3):
        before_step(net.fitted, Clock(step, 0, 1, None), RNG.child(step))
        sgd.zero_grad()
        rows = torch.randint(0, 64, (8, 16), generator=torch.Generator().manual_seed(step))
        net.logits(net(rows)).square().mean().backward()
        sgd.step()
        missing -= {key for key, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert not missing


@every
def test_saved_rebuilt_and_generating_it_is_the_same_model(tmp_path, name):
    net = made(name).eval()
    save(net, tmp_path)
    back = load(tmp_path)
    assert back.cfg == net.cfg and all(t.equal(plain(back)[key]) for key, t in plain(net).items())
    with torch.no_grad():
        whole = net(ROW)
        torch.testing.assert_close(back(ROW), whole)  # the weights are equal; where they lie in memory may change a last bit
        parts = in_portions(net, ROW, [4, 1, 2])
    torch.testing.assert_close(torch.stack(parts), whole, rtol=1e-4, atol=1e-5)


@every
def test_the_plain_form_computes_the_same_or_is_refused_by_name(name):
    net = made(name).eval()
    if not hasattr(net.fitted[0][2], "export"):
        with pytest.raises(BadInput, match=name):
            exported(net)
        return
    copy = exported(net)
    assert {key: p.shape for key, p in copy.named_parameters()} == {key: p.shape for key, p in Transformer(CFG).named_parameters()}
    torch.testing.assert_close(copy(ROW), net(ROW), rtol=1e-4, atol=1e-5)

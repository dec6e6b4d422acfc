"""The driver: claims, decay, flat buffers, matrix methods, state."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng
from bloomery.train import optimizer as module
from bloomery.train.optimizer import Optimizer

CFG = Config(40, 16, 2, 2, 1, 24, 8)


@dataclass(frozen=True)
class Whole:
    """A toy of scope "matrix": the normalised gradient, with its own state replaced instead of written into."""

    scope = "matrix"

    def init(self, like):
        assert like.dim() == 2
        return {"count": torch.zeros(())}

    def direction(self, g, p, s, t, rng):
        s["count"] = s["count"] + 1
        return g / g.norm()


@dataclass(frozen=True)
class Replacing:
    """A toy of scope "element" that replaces its state."""

    scope = "element"

    def init(self, like):
        return {"m": torch.zeros_like(like)}

    def direction(self, g, p, s, t, rng):
        s["m"] = s["m"] + g
        return s["m"]


@dataclass(frozen=True)
class Counting:
    """A toy of scope "element" with one shared number as state, and a direction that depends on it."""

    scope = "element"

    def init(self, like):
        return {"count": torch.zeros(()), "m": torch.zeros_like(like)}

    def direction(self, g, p, s, t, rng):
        s["count"] += 1
        s["m"] += g
        return s["m"] / s["count"] + p


def fill(net: torch.nn.Module, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=g).to(p.dtype)


def test_equals_torch_adamw_with_decayed_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    ours, theirs = Transformer(CFG), Transformer(CFG)
    theirs.load_state_dict(ours.state_dict())
    driver = Optimizer(ours, AdamW(0.9, 0.95), Rng((0,)), decay=0.1)
    groups = [{"params": [p for p in theirs.parameters() if (p.dim() >= 2) == d], "weight_decay": 0.1 * d} for d in (True, False)]
    other = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))
    for t in range(1, 6):
        fill(ours, t), fill(theirs, t)
        driver.collect()
        driver.step(1e-2, t)
        other.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6), name


@dataclass(frozen=True)
class InWords:
    """AdamW by its direction, without the fused kernel."""

    inner: AdamW = field(default_factory=AdamW)
    scope = "element"

    def init(self, like):
        return self.inner.init(like)

    def direction(self, g, p, s, t, rng):
        return self.inner.direction(g, p, s, t, rng)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fused_update_is_the_direction_and_the_drivers_step(dtype: torch.dtype) -> None:
    masters, states = [], []
    for method in (AdamW(), InWords()):
        net = Transformer(CFG, Rng((3,)))
        driver = Optimizer(net, method, Rng((0,)), 0.1, dtype)
        for t in (1, 2, 3):
            fill(net, t)
            driver.collect()
            driver.step(1e-2, t)
        assert all(torch.equal(p.data, driver.weights()[name].to(dtype)) for name, p in net.named_parameters())
        masters.append(driver.master), states.append(driver.states[""])
    torch.testing.assert_close(*masters, rtol=1e-5, atol=1e-7)
    for key in states[0]:
        torch.testing.assert_close(states[0][key], states[1][key], rtol=1e-5, atol=1e-7)


def test_gradients_of_a_step_replace_those_before() -> None:
    net = Transformer(CFG)
    driver = Optimizer(net, AdamW(), Rng((0,)))
    fill(net, 0)
    driver.collect()
    driver.step(0.1, 1)
    net.norm.weight.grad = torch.ones_like(net.norm.weight)
    found = dict(zip([one.name for one in driver.claims], driver.collect(), strict=True))
    assert bool((found.pop("norm.weight") == 1).all()) and not any(bool(g.any()) for g in found.values())
    driver.spend()  # a batch whose update is left out
    net.norm.weight.grad = torch.full_like(net.norm.weight, 2.0)
    assert bool((driver.collect()[-1] == 2).all())


def test_every_parameter_is_claimed_once_and_is_a_view() -> None:
    net = Transformer(CFG)
    net.norm.weight.requires_grad_(False)
    driver = Optimizer(net, AdamW(), Rng((0,)), dtype=torch.bfloat16)
    wanted = {name for name, p in net.named_parameters() if p.requires_grad}
    assert sorted(one.name for one in driver.claims) == sorted(wanted)
    assert all(a.stop == b.start for a, b in zip(driver.claims, driver.claims[1:], strict=False))
    assert all(p.dtype == torch.bfloat16 for p in net.parameters())
    driver.work.zero_()
    assert not any(bool(p.any()) for name, p in net.named_parameters() if name in wanted)


def test_bfloat16_masters_keep_steps_too_small_for_the_working_weights() -> None:
    net = Transformer(CFG)
    with torch.no_grad():
        net.embed.weight.fill_(1.0)
    driver = Optimizer(net, AdamW(), Rng((0,)), dtype=torch.bfloat16)
    for t in range(1, 101):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        driver.collect()
        driver.step(1e-4, t)
    assert torch.allclose(driver.weights()["embed.weight"], torch.full((40, 16), 0.99), atol=1e-4)
    assert bool((net.embed.weight == torch.tensor(0.99).bfloat16()).all())


def test_matrix_methods_get_whole_matrices_of_the_blocks() -> None:
    net = Transformer(CFG)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    driver = Optimizer(net, Whole(), Rng((0,)), rest=AdamW())
    fill(net, 0)
    grads = {name: p.grad.clone() for name, p in net.named_parameters()}
    driver.collect()
    driver.step(0.5, 1)
    name = "blocks.1.mlp.down.weight"
    assert torch.allclose(driver.weights()[name], before[name] - 0.5 * grads[name] / grads[name].norm(), atol=1e-6)
    assert float(driver.states[name]["count"]) == 1
    assert torch.allclose(driver.weights()["embed.weight"], before["embed.weight"] - 0.5 * grads["embed.weight"].sign(), atol=1e-4)
    with pytest.raises(ValueError, match="second optimizer"):
        Optimizer(Transformer(CFG), Whole(), Rng((0,)))


def test_state_may_be_replaced_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for chunk in (64, 1 << 20):
        monkeypatch.setattr(module, "CHUNK", chunk)
        net = Transformer(CFG, Rng((3,)))
        driver = Optimizer(net, Replacing(), Rng((0,)), decay=0.5)
        for t in (1, 2):
            fill(net, 0)
            driver.collect()
            driver.step(0.1, t)
        results.append(driver.master.clone())
    assert torch.equal(*results)


@pytest.mark.parametrize("method", [Counting(), Whole()], ids=["all", "rest"])
def test_shared_state_changes_once_a_step_and_decay_covers_matrices_only(monkeypatch: pytest.MonkeyPatch, method) -> None:
    monkeypatch.setattr(module, "CHUNK", 64)
    net = Transformer(CFG, Rng((3,)))
    driver = Optimizer(net, method, Rng((0,)), decay=0.5, rest=Counting())
    element = {one.name for one in driver.claims if not one.whole}
    wanted = {name: p.detach().clone() for name, p in net.named_parameters()}
    total = {name: torch.zeros_like(p) for name, p in wanted.items()}
    for t in (1, 2, 3):
        fill(net, t)
        for name, p in net.named_parameters():
            total[name] += p.grad
            wanted[name] = wanted[name] * (0.95 if p.dim() >= 2 else 1.0) - 0.1 * (total[name] / t + wanted[name])
        driver.collect()
        driver.step(0.1, t)
    assert float(driver.states[""]["count"]) == 3
    assert element and all(torch.allclose(driver.weights()[name], wanted[name], atol=1e-6) for name in element)


def test_streamed_gradients_add_up_in_float32_and_load_restores_everything() -> None:
    net = Transformer(CFG)
    driver = Optimizer(net, AdamW(), Rng((0,)), dtype=torch.bfloat16)
    driver.stream()
    for _ in range(300):
        (net.norm.weight.sum() * 1.0).backward()
    by_name = dict(zip([one.name for one in driver.claims], driver.collect(), strict=True))
    assert bool((by_name["norm.weight"] == 300).all()) and net.norm.weight.grad is None
    driver.step(0.1, 1)
    kept = {name: t.clone() for name, t in driver.tensors().items()}
    fresh = Optimizer(Transformer(CFG), AdamW(), Rng((0,)), dtype=torch.bfloat16)
    fresh.load(kept)
    assert torch.equal(fresh.work, driver.work) and all(torch.equal(fresh.tensors()[name], t) for name, t in kept.items())


@pytest.mark.parametrize("method", [AdamW(), Counting(), Whole()])
def test_rates_of_their_own_multiply_the_step_and_not_the_decay(monkeypatch: pytest.MonkeyPatch, method) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    plain, rated = Transformer(CFG), Transformer(CFG)
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    rates = {"blocks.0.mixer.qkv.weight": 0.25, "blocks.1.mlp.down.weight": 3.0, "norm.weight": 0.5}
    for net, given in ((plain, None), (rated, rates)):
        driver = Optimizer(net, method, Rng((0,)), decay=0.1, rest=AdamW(), rates=given)
        assert (driver.factors is None) == (given is None)
        fill(net, 1)
        driver.collect()
        driver.step(1e-2, 1)
    for (name, one), other in zip(plain.named_parameters(), rated.parameters(), strict=True):
        kept = before[name] * (1 - 1e-3 * (one.dim() > 1))
        torch.testing.assert_close(other - kept, (one - kept) * rates.get(name, 1.0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros_of_the_blocks_are_kept_whatever_moves_the_rest(dtype: torch.dtype) -> None:
    for method, rest in ((AdamW(), None), (Whole(), AdamW()), (Counting(), None)):
        net = Transformer(CFG, Rng((3,)))
        zero = torch.rand(net.blocks[0].mlp.down.weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5
        with torch.no_grad():
            net.blocks[0].mlp.down.weight[zero] = 0
            net.embed.weight[0] = 0
        driver = Optimizer(net, method, Rng((0,)), 0.1, dtype, rest)
        assert driver.keep_zeros() == int(zero.sum())
        for t in (1, 2, 3):
            fill(net, t)
            grads = dict(zip([one.name for one in driver.claims], driver.collect(), strict=True))
            assert not bool(grads["blocks.0.mlp.down.weight"][zero].any())
            driver.step(0.1, t)
        for weight in (net.blocks[0].mlp.down.weight, driver.weights()["blocks.0.mlp.down.weight"]):
            assert not bool(weight[zero].any()) and bool((weight[~zero] != 0).all())
        assert bool((net.embed.weight[0] != 0).any())

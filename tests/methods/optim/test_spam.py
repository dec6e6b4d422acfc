"""SPAM against Adam and its rules written out: clipping, resets with a warm-up, and moments for a share of the numbers."""

from __future__ import annotations

import math

import pytest
import torch

from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.optim.spam import Spam, places
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng
from bloomery.train.optimizer import Optimizer

RNG = Rng((0,))


def gradients(shape: tuple[int, ...], count: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(count)]


def test_without_clipping_and_resets_it_is_adam() -> None:
    method, adam, p = Spam(theta=0, gap=0), AdamW(), torch.zeros(9, 4, dtype=torch.float64)
    a, b = method.init(p), adam.init(p)
    for t, grad in enumerate(gradients((9, 4), 30), 1):
        assert torch.equal(method.direction(grad, p, a, t, RNG), adam.direction(grad, p, b, t, RNG))


def test_follows_the_rules() -> None:
    method, p = Spam(0.9, 0.95, 1e-8, theta=9.0, settle=3, gap=10, warm=4), torch.zeros(9, 4, dtype=torch.float64)
    s, m, v, clipped = method.init(p), 0.0, 0.0, 0
    for t, grad in enumerate(gradients((9, 4), 25), 1):
        done = (t - 1) % 10
        if done == 0:
            m, v = torch.zeros_like(p), torch.zeros_like(p)
        g = grad.clone()
        if done >= 3:
            usual = v / (1 - 0.95**done)
            spikes = g * g > 9 * usual
            g[spikes] = g[spikes].sign() * (9 * usual[spikes]).sqrt()
            clipped += int(spikes.sum())
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        wanted = (m / (1 - 0.9 ** (done + 1))) / ((v / (1 - 0.95 ** (done + 1))).sqrt() + 1e-8)
        if t > 10 and done < 4:
            wanted *= 1 - 0.99 * (1 + math.cos(math.pi * done / 4)) / 2
        assert torch.allclose(method.direction(grad, p, s, t, RNG), wanted, rtol=1e-9, atol=1e-12), t
    assert clipped > 5


def test_a_spike_is_forgotten_sooner_than_by_adam() -> None:
    spiked = [grad * (1e4 if t == 30 else 1.0) for t, grad in enumerate(gradients((50,), 200), 1)]
    moved = {}
    for name, method in {"spam": Spam(gap=100, warm=10, theta=25.0), "adam": AdamW()}.items():
        p, s, after = torch.zeros(50, dtype=torch.float64), method.init(torch.zeros(50, dtype=torch.float64)), 0.0
        for t, grad in enumerate(spiked, 1):
            d = method.direction(grad + 1.0, p, s, t, RNG)  # a steady gradient of 1 under noise
            after += float(d.mean()) if t > 60 else 0.0
        moved[name] = after
    assert moved["spam"] > 2 * moved["adam"] > 0


def test_sparse_moments_take_their_share_and_are_drawn_anew_at_a_reset() -> None:
    p = torch.zeros(30, 40)
    dense, sparse = Spam(), Spam(density=0.25, gap=4, warm=0)
    size = {m: sum(x.numel() * x.element_size() for x in m.init(p).values()) for m in (dense, sparse)}
    assert dense.scope == "element" and sparse.scope == "matrix" and size[sparse] == size[dense] // 4 + 8
    s, seen = sparse.init(p), []
    for t, grad in enumerate(gradients((30, 40), 8), 1):
        seen.append(sparse.direction(grad.float(), p, s, t, RNG.child(t)) != 0)
        assert int(seen[-1].sum()) == 300
    assert all(torch.equal(seen[0], one) for one in seen[1:4]) and all(torch.equal(seen[4], one) for one in seen[5:])
    assert 0.1 < float((seen[0] & seen[4]).sum()) / 300 < 0.4  # a quarter where the draws are independent
    kept = seen[0].reshape(-1)
    adam, flat, t0 = AdamW(), gradients((30, 40), 1)[0].float().reshape(-1)[kept], torch.zeros(300)
    first = sparse.direction(gradients((30, 40), 1)[0].float(), p, sparse.init(p), 1, RNG.child(1))
    assert torch.equal(first.reshape(-1)[kept], adam.direction(flat, t0, adam.init(t0), 1, RNG))


def test_every_place_is_as_likely_as_another() -> None:
    counts = torch.zeros(37)
    for seed in range(2000):
        at = places(37, 9, seed, torch.device("cpu"))
        assert at.unique().numel() == 9 and int(at.min()) >= 0 and int(at.max()) < 37
        counts[at] += 1
    assert float((counts / 2000 - 9 / 37).abs().max()) < 0.06


def test_through_the_driver_the_sparse_state_is_saved_and_scales_with_the_density() -> None:
    cfg = Config(40, 16, 2, 2, 1, 24, 8)

    def run(density: float, interrupted: bool) -> Optimizer:
        driver = Optimizer(Transformer(cfg, Rng((3,))), Spam(density=density, gap=3, warm=2, settle=1), Rng((0,)), rest=AdamW())
        for t in range(1, 8):
            if interrupted and t == 5:
                kept = {name: x.clone() for name, x in driver.tensors().items()}
                driver = Optimizer(Transformer(cfg), Spam(density=density, gap=3, warm=2, settle=1), Rng((0,)), rest=AdamW())
                driver.load(kept)
            g = torch.Generator().manual_seed(t)
            for p in driver.parameters.values():
                p.grad = torch.randn(p.shape, generator=g)
            driver.collect()
            driver.step(0.1, t)
        return driver

    assert torch.equal(run(0.5, False).master, run(0.5, True).master)
    matrices = {d: run(d, False) for d in (0.25, 0.5)}
    kept = {d: sum(s["m"].numel() + s["v"].numel() for name, s in one.states.items() if name) for d, one in matrices.items()}
    assert kept[0.5] == 2 * kept[0.25]
    with pytest.raises(ValueError, match="density"):
        Spam(density=0.0)


def test_a_number_whose_first_gradient_comes_late_moves() -> None:
    method, p = Spam(settle=5, gap=50, warm=0), torch.zeros(2, dtype=torch.float64)
    s, moved = method.init(p), torch.zeros(2, dtype=torch.float64)
    for t in range(1, 41):
        moved += method.direction(torch.tensor([0.0 if t <= 10 else 1.0, 1.0], dtype=torch.float64), p, s, t, RNG)
    assert 20 < float(moved[0]) <= float(moved[1])

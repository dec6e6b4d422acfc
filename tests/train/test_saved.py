"""What is offered to a method, what is counted, and that gradients do not change where nothing is."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng, Site
from bloomery.train.saved import saving

CFG = Config(64, 32, 2, 2, 1, 48, 64)


class Noting:
    """Keeps a copy, and notes what it was offered."""

    def __init__(self) -> None:
        self.offered: list[tuple[torch.Tensor, Site]] = []

    def pack(self, t: torch.Tensor, site: Site) -> tuple:
        self.offered.append((t, site))
        return (t.clone(),)

    def unpack(self, h: tuple) -> torch.Tensor:
        return h[0]


def loss_of(net: Transformer) -> torch.Tensor:
    ids = torch.randint(0, 64, (3, 40), generator=torch.Generator().manual_seed(0))
    return net.logits(net(ids, None, torch.arange(40).expand(3, 40) // 15)).square().mean()


def gradient(method=None, watched: bool = True) -> tuple[list[torch.Tensor], object]:
    net = Transformer(CFG, Rng((0,)))
    if not watched:
        loss_of(net).backward()
        return [p.grad for p in net.parameters()], None
    with saving(net, method) as watch:
        loss_of(net).backward()
    return [p.grad for p in net.parameters()], watch


def test_a_method_that_copies_changes_nothing_and_everything_is_given_back() -> None:
    plain, _ = gradient(watched=False)
    for method in (None, Noting()):
        found, watch = gradient(method)
        for a, b in zip(found, plain, strict=True):
            assert torch.equal(a, b) if method is None else (a - b).norm() <= 1e-6 * b.norm()  # copies may lie otherwise in memory
        gc.collect()
        assert watch.kept.now == watch.plain.now == 0 and not watch.kept.holders and not watch.packed and not watch.hooks


def test_parameters_small_tensors_masks_and_angles_are_never_offered() -> None:
    method = Noting()
    net = Transformer(CFG, Rng((0,)))
    with saving(net, method):
        loss_of(net).backward()
    assert method.offered and {site.kind for _, site in method.offered} >= {"linear", "mixer", "norm", "mlp"}
    weights = {tuple(p.shape) for p in net.parameters()} | {tuple(p.mT.shape) for p in net.parameters() if p.dim() == 2}
    for t, site in method.offered:
        assert t.is_floating_point() and t.numel() >= 1024 and t.is_contiguous() and tuple(t.shape) not in weights
        assert t.shape[-1] != CFG.head_width // 2, site  # cosines and sines
    named = {site.name for _, site in method.offered}
    assert "blocks.1.mlp.down" in named and all(site.layer in (-1, 0, 1) and site.of == 2 for _, site in method.offered)


def test_memory_is_counted_once_however_many_operations_keep_it() -> None:
    class Square(nn.Module):
        def forward(self, x):
            y = x * 2
            return (y * y).sum() + (y.transpose(0, 1) @ y).sum() + y[:, :7].exp().sum()

    x, method = torch.ones(64, 64, requires_grad=True), Noting()
    net = Square()
    with saving(net) as watch:
        value = net(x)
        assert watch.kept.now == 64 * 64 * 4 + 64 * 7 * 4  # y once, although its views are kept too; the exponential's own output
        value.backward()
    wanted = x.grad
    x.grad, net.blocks = None, []
    watch = saving(net, method)
    watch.inside = [Site("stack", "", -1, 0)]
    hooks = torch.autograd.graph.saved_tensors_hooks(watch.pack, watch.unpack)
    with hooks:
        net(x).backward()
    assert len(method.offered) == 1 and torch.equal(x.grad, wanted)


def test_a_tensor_changed_after_it_was_kept_is_refused() -> None:
    x = torch.ones(2, 4, requires_grad=True)
    with saving(nn.Linear(4, 4)):
        y = x * 1.0
        z = (y * y).sum()
        y.detach().add_(1.0)
        with pytest.raises(RuntimeError, match="changed in place"):
            z.backward()


def test_the_peak_is_the_largest_of_several_passes() -> None:
    watch = saving(nn.Linear(4, 4))
    for rows, peak in ((3, 48), (8, 128), (2, 128)):
        x = torch.ones(rows, 4, requires_grad=True)
        with watch:
            (x * x).sum().backward()
        assert watch.peak_bytes == watch.plain_bytes == peak


def test_sites_are_left_when_a_module_fails() -> None:
    net = Transformer(CFG, Rng((0,)))
    watch = saving(net, Noting())
    with watch:
        with pytest.raises(IndexError):
            net(torch.full((1, 4), 64))
        assert watch.inside == []

"""Gradients equal to the bit, fewer bytes, and only the chosen sites."""

from __future__ import annotations

import gc

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.methods.adapter.lora import Lora
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.saved.recompute import Recompute
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.rewrite.adapters import attach
from bloomery.seams import Batch, Rng, Site
from bloomery.train.saved import saving


def trained(method: Recompute | None, dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], object, int]:
    """Gradients, what was counted, and how often the first feed-forward layer was computed."""
    net = Transformer(Config(64, 64, 4, 4, 2, 96, 64), Rng((0,))).to(dtype)
    calls = []
    net.blocks[0].mlp.down.register_forward_hook(lambda *_: calls.append(1))
    ids = torch.randint(0, 64, (4, 65), generator=torch.Generator().manual_seed(0))
    order = torch.arange(64).expand(4, 64)
    micro = Batch(ids[:, :-1], ids[:, 1:], torch.ones(4, 64), order % 40, order // 40)
    with saving(net, method) as watch:
        for _ in range(2):
            CrossEntropy(16).terms({"net": net}, micro, {}, Rng((0,)))["tokens"].backward()
    assert "forward" not in vars(net.blocks[0]) and "forward" not in vars(net.blocks[0].mlp)
    return [p.grad for p in net.parameters()], watch, len(calls)


CHOICES = [("block",), ("mixer",), ("mlp",), ("mixer", "mlp"), ("norm", "mlp.down"), ("linear",), ("block", "mlp")]


@pytest.mark.parametrize("sites", CHOICES, ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_equal_to_the_bit(sites: tuple[str, ...], dtype: torch.dtype) -> None:
    (found, watch, _), (wanted, plain, _) = trained(Recompute(sites), dtype), trained(None, dtype)
    assert all(map(torch.equal, found, wanted))
    gc.collect()
    assert watch.kept.now == watch.plain.now == 0 and watch.peak_bytes <= plain.peak_bytes


def test_blocks_keep_their_inputs_and_one_of_them_the_rest() -> None:
    plain = trained(None)[1].peak_bytes
    block, mlp, half = (trained(Recompute(sites, every))[1] for sites, every in ((("block",), 1), (("mlp",), 1), (("block",), 2)))
    assert block.peak_bytes < 0.45 * plain and block.peak_bytes < half.peak_bytes < 0.8 * plain and mlp.peak_bytes < plain
    assert block.plain_bytes == pytest.approx(plain, rel=0.05)


def test_only_what_is_chosen_is_computed_twice() -> None:
    assert [trained(method)[2] for method in (None, Recompute(("mixer",)), Recompute(("mlp",)), Recompute())] == [2, 2, 4, 4]
    sites = [Site("block", "blocks.2", 2, 4), Site("mlp", "blocks.3.mlp", 3, 4), Site("linear", "blocks.2.mlp.down", 2, 4)]
    assert [Recompute(("mlp.down", "block"), 2).again(site) for site in sites] == [True, False, True]
    assert not Recompute(("norm",)).again(Site("norm", "norm", -1, 4))


def test_a_site_that_drops_at_random_is_not_computed_twice() -> None:
    """Its second pass would drop other numbers, and the gradient would be that of another model."""
    net = Transformer(Config(64, 64, 2, 4, 2, 96, 64), Rng((0,))).train()
    attach(net, Lora(rank=2, dropout=0.5), Rng((1,)))
    with pytest.raises(BadInput, match=r"saved: blocks\.0\.mlp would drop other numbers"), saving(net, Recompute(("mlp",))):
        pass
    assert not net.blocks[0].mlp._forward_hooks
    with saving(net.eval(), Recompute(("mlp",))):
        pass


def test_names_that_are_no_sites_are_refused() -> None:
    for knobs, said in (({"sites": ("attention",)}, "sites may name"), ({"sites": ()}, "not empty"), ({"every": 0}, "at least 1")):
        with pytest.raises(ValueError, match=said):
            Recompute(**knobs)

"""Eight bits for what backward keeps: a bound for every number, an exact forward, and heads with ranges of their own."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.saved.mesa import Mesa
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng, Site
from bloomery.train.saved import saving

SITE = Site("mixer", "blocks.0.mixer", 0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("group", [0, 8, 32])
def test_no_number_is_off_by_more_than_half_a_step(dtype: torch.dtype, group: int) -> None:
    g = torch.Generator().manual_seed(0)
    t = (torch.randn(5, 7, 32, generator=g) * torch.logspace(-20, 20, 7)[:, None] + torch.logspace(-4, 3, 5)[:, None, None]).to(dtype)
    method = Mesa(group=group)
    form = method.pack(t, SITE)
    again = method.unpack(form)
    assert again.shape == t.shape and again.dtype == dtype and form[0].dtype == torch.uint8
    rows, each = t.float().reshape(form[0].shape), form[2].float()
    assert (
        (again.float().reshape(rows.shape) - rows).abs() <= each * 0.51 + rows.abs() * (2**-7 if dtype == torch.bfloat16 else 1e-6)
    ).all()
    span = rows.amax(-1, keepdim=True) - rows.amin(-1, keepdim=True)
    assert (each * 255 <= span * 1.02 + rows.abs().amax(-1, keepdim=True) * 0.01).all()


def test_what_eight_bits_can_hold_comes_back_exactly() -> None:
    for t in (torch.arange(256.0).reshape(1, 256), torch.zeros(3, 8), torch.tensor(3.0), torch.full((2, 4), 2.0), torch.zeros(0, 4)):
        assert torch.allclose(Mesa(group=0).unpack(Mesa(group=0).pack(t, SITE)), t, atol=1e-6)
    with pytest.raises(ValueError):
        Mesa(group=-1)


def trained(method: Mesa | None) -> tuple[float, torch.Tensor, int, int]:
    """Loss, gradient, bytes kept and bytes that would have been, of a net whose heads have values of much different size."""
    net = Transformer(Config(64, 64, 2, 4, 4, 96, 64), Rng((0,)))
    with torch.no_grad():
        for block in net.blocks:
            scale = 10 ** torch.linspace(-2, 1, 4).repeat_interleave(16)
            block.mixer.qkv.weight[128:].mul_(scale[:, None])
            block.mixer.out.weight.div_(scale)
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 64, (4, 65), generator=g)
    order = torch.arange(64).expand(4, 64)
    micro = Batch(ids[:, :-1], ids[:, 1:], torch.ones(4, 64), order, torch.zeros_like(order))
    with saving(net, method) as watch:
        loss = CrossEntropy().terms({"net": net}, micro, {}, Rng((0,)))["tokens"]
        loss.backward()
    return loss.item(), net.blocks[0].mixer.qkv.weight.grad.view(3, 4, -1), watch.peak_bytes, watch.plain_bytes


def test_forward_is_exact_less_is_kept_and_heads_have_ranges_of_their_own() -> None:
    loss, wanted, kept, _ = trained(None)
    by_head, by_tensor = trained(Mesa(group=16)), trained(Mesa(group=0))
    assert by_head[0] == loss == by_tensor[0]
    assert by_head[2] < 0.5 * kept and by_head[3] == kept
    off = [((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).mean().item() for _, found, *_ in (by_head, by_tensor)]
    assert 0 < off[0] < 0.02 and off[0] < 0.2 * off[1], off


def test_a_group_keeps_heads_apart_only_where_it_divides_their_width() -> None:
    """Two heads of 16: the first with numbers of a hundred, the second of a hundredth; 12 does not even divide the row."""
    g = torch.Generator().manual_seed(0)
    t = torch.randn(6, 32, generator=g) * torch.tensor([100.0, 0.01]).repeat_interleave(16)
    off = {group: float((m.unpack(m.pack(t, SITE)) - t)[:, 16:].abs().max()) for group in (8, 16, 32, 12) if (m := Mesa(group=group))}
    assert max(off[8], off[16]) < 2e-4 and off[32] == off[12] > 1e-2

"""Planted variation between channels costs nothing after the weights have taken it over, and a folder computes what was solved."""

from __future__ import annotations

import pytest
import torch
from paged import in_portions
from torch import nn

from bloomery.methods.compress.repq import RepQ
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import rounding
from bloomery.nn.saving import load, save
from bloomery.rewrite.compress import compress
from bloomery.seams import Rng

TEXT = [torch.randint(0, 40, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (24, 24, 20, 17, 9)]


def solved(method, unit: nn.Linear, x: torch.Tensor, name: str) -> nn.Module:
    acc: dict = {"name": name}
    for part in x.split(60):
        method.collect(acc, part, None, None)
    return method.solve(unit, acc, {}, None, None)


def error(small: nn.Module, unit: nn.Linear, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float((small(x) - unit(x)).norm() / unit(x).norm())


def model(**more) -> Transformer:
    net = Transformer(Config(40, 32, 2, 4, 2, 48, 24, **more), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(4.0) if p.dim() > 1 else None
    return net.eval()


def test_inputs_after_a_norm_have_a_grid_for_every_channel_and_their_ratio_is_in_the_weights():
    torch.manual_seed(0)
    unit, x = nn.Linear(32, 24), torch.randn(400, 32) * torch.logspace(-1.5, 1.5, 32) + torch.randn(32)
    with torch.no_grad():
        unit.weight.div_(torch.logspace(-1.5, 1.5, 32))
    apart, alike = (solved(RepQ(), unit, x, name) for name in ("blocks.0.mixer.qkv", "blocks.0.mixer.out"))
    assert apart.packed.inputs.scale.shape == (32,) and alike.packed.inputs.scale.shape == (1,)
    assert error(apart, unit, x) < 0.4 * error(alike, unit, x)
    ratio = apart.packed.inputs.scale.mean() / apart.packed.inputs.scale
    assert torch.allclose(apart.packed.input_I.float(), ratio, rtol=1e-3) and alike.packed.input_I is None


def test_with_many_bits_it_is_the_linear():
    torch.manual_seed(1)
    unit, x = nn.Linear(32, 24), torch.randn(400, 32)
    for name in ("blocks.0.mixer.qkv", "blocks.0.mixer.out"):
        assert error(solved(RepQ(8, 8), unit, x, name), unit, x) < 0.02


@pytest.mark.parametrize("more", [{}, {"norm": "layer", "gated": False, "activation": "gelu"}], ids=["llama", "gpt"])
def test_a_folder_computes_what_was_solved_whole_or_token_by_token(tmp_path, more):
    net = model(**more)
    compress(net, RepQ(), TEXT)
    assert len(rounding(net)) == 2
    save(net, tmp_path)
    again, ids = load(tmp_path), torch.tensor([TEXT[0]])
    with torch.no_grad():
        one, two = (each.logits(each(ids)) for each in (net, again))
        assert one.equal(two) and not torch.allclose(one, model(**more).logits(model(**more)(ids)), atol=1e-2)
        fine = model(**more)
        compress(fine, RepQ(8, 8), TEXT)
        whole, parts = fine(ids)[0], in_portions(fine, ids, [9, 1, 14])[0]
    assert float((parts - whole).norm() / whole.norm()) < 0.01  # a sum in another order may end on the next level


def test_it_cannot_be_trained_or_exported_and_nonsense_is_refused():
    from bloomery.core.errors import BadInput
    from bloomery.nn.modules import exported

    net = model()
    compress(net, RepQ(), TEXT)
    with pytest.raises(BadInput, match="nothing is learnt"):
        net(torch.tensor([TEXT[0]])).sum().backward()
    with pytest.raises(BadInput, match="rounds its inputs"):
        exported(net)
    with pytest.raises(ValueError, match="was given none"):
        RepQ().solve(nn.Linear(4, 4), {}, {}, None, None)
    for knobs in ({"bits": 1}, {"inputs": 9}):
        with pytest.raises(ValueError, match="between 2 and 8"):
            RepQ(**knobs)

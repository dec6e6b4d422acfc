"""The searched base loses no more than a fixed one, a GELU is known by its outputs, and attention weights are judged by their products."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bloomery.methods.compress.adalog import GELU, AdaLog
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import rounding
from bloomery.nn.saving import load, save
from bloomery.rewrite.compress import compress
from bloomery.seams import Rng

TEXT = [torch.randint(0, 40, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (24, 24, 20, 17, 9)]


def solved(method, unit: nn.Linear, x: torch.Tensor, name: str = "blocks.0.mlp.down") -> nn.Module:
    acc: dict = {"name": name}
    method.collect(acc, x, None, None)
    return method.solve(unit, acc, {}, None, None)


def error(small: nn.Module, unit: nn.Linear, x: torch.Tensor) -> float:
    with torch.no_grad():
        exact = nn.Linear(unit.in_features, unit.out_features)
        exact.weight, exact.bias = small.weight, unit.bias
        return float((small(x) - exact(x)).norm() / exact(x).norm())


def test_what_follows_a_gelu_gets_powers_that_lose_less_than_fixed_ones_and_other_inputs_an_even_grid():
    torch.manual_seed(0)
    unit, x = nn.Linear(48, 24), F.gelu(1.5 * torch.randn(500, 48))
    found, fixed = solved(AdaLog(), unit, x), solved(AdaLog(base=37), unit, x)
    assert found.packed.inputs.steps and float(found.packed.inputs.low) == pytest.approx(-GELU) and fixed.packed.inputs.steps == 1.0
    assert error(found, unit, x) < error(fixed, unit, x)
    relu, signed = solved(AdaLog(), unit, F.relu(x)), solved(AdaLog(), unit, torch.randn(500, 48))
    assert float(relu.packed.inputs.low) == 0.0 and relu.packed.inputs.steps
    assert not signed.packed.inputs.steps and signed.packed.inputs.scale.shape == (1,)


def test_the_base_of_attention_weights_is_the_best_of_all_for_their_products():
    torch.manual_seed(0)
    seen = [
        {"q": torch.randn(12, 4, 8), "k": torch.randn(12, 2, 8), "v": torch.randn(12, 2, 8),
         "weights": torch.randn(4, 12, 12).mul(2).masked_fill(~torch.ones(12, 12).tril().bool(), -torch.inf).softmax(-1)}
    ]  # fmt: skip
    rounds = AdaLog().attend(seen)
    assert rounds.q.scale.shape == (4, 1) and rounds.k.scale.shape == (2, 1)
    p, v = seen[0]["weights"], seen[0]["v"].repeat_interleave(2, dim=1).transpose(0, 1)

    def lost(grid) -> float:
        return float(((grid(p) - p) @ v).square().sum())

    assert lost(rounds.weights) <= min(lost(AdaLog(base=q).attend(seen).weights) for q in range(10, 139, 8))


def test_a_folder_computes_what_was_solved(tmp_path):
    net = Transformer(Config(40, 32, 2, 4, 2, 48, 24, norm="layer", gated=False, activation="gelu"), Rng((7,))).eval()
    compress(net, AdaLog(), TEXT)
    assert len(rounding(net)) == 2 and net.blocks[0].mlp.down.packed.inputs.steps
    save(net, tmp_path)
    again, ids = load(tmp_path), torch.tensor([TEXT[0]])
    with torch.no_grad():
        assert net.logits(net(ids)).equal(again.logits(again(ids)))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="was given none"):
        AdaLog().solve(nn.Linear(4, 4), {}, {}, None, None)
    for knobs in ({"bits": 1}, {"inputs": 9}, {"base": -1}):
        with pytest.raises(ValueError, match="between 2 and 8"):
            AdaLog(**knobs)

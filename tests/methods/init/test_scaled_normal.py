"""Deviations by kind of layer, independent of the order of parameters."""

from __future__ import annotations

import pytest
import torch

from bloomery.methods.init.scaled_normal import ScaledNormal
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng, Source


def filled(cfg: Config, method: ScaledNormal, seed: int = 0) -> dict[str, torch.Tensor]:
    net = Transformer(cfg)
    method.apply(Source(net=net), (), None, Rng((seed, "init")))
    return {name: p.detach() for name, p in net.named_parameters()}


def test_deviations() -> None:
    weights = filled(Config(512, 128, 4, 4, 4, 256, 16), ScaledNormal(0.02, fan_in=0))
    for name, p in weights.items():
        if p.dim() == 1:
            assert bool((p == 1).all())
        else:
            wanted = 0.02 / 8**0.5 if name.endswith(("out.weight", "down.weight")) else 0.02
            assert p.std().item() == pytest.approx(wanted, rel=0.05), name
    wide = filled(Config(512, 128, 4, 4, 4, 256, 16), ScaledNormal(0.02, fan_in=0.5))
    assert wide["blocks.0.mlp.gate_up.weight"].std().item() == pytest.approx(0.5 / 128**0.5, rel=0.05)
    assert filled(Config(512, 64, 1, 2, 2, 32, 8), ScaledNormal())["embed.weight"].std().item() == pytest.approx(0.125, rel=0.05)
    assert wide["blocks.0.mlp.down.weight"].std().item() == pytest.approx(0.5 / 256**0.5 / 8**0.5, rel=0.05)


def test_gains_and_biases() -> None:
    cfg = Config(64, 16, 2, 2, 2, 32, 8, norm="layer", positions="learned", gated=False, qkv_bias=True, out_bias=True, mlp_bias=True)
    weights = filled(cfg, ScaledNormal())
    assert weights["positions.weight"].std().item() == pytest.approx(16**-0.5, rel=0.2)
    assert weights["blocks.0.mlp.up.weight"].std().item() == pytest.approx(0.7 / 16**0.5, rel=0.1)
    assert weights["blocks.0.mlp.down.weight"].std().item() == pytest.approx(0.7 / 32**0.5 / 4**0.5, rel=0.1)
    vectors = {name: p for name, p in weights.items() if p.dim() == 1}
    assert all(bool((p == (0 if name.endswith("bias") else 1)).all()) for name, p in vectors.items())
    assert sum(name.endswith("bias") for name in vectors) == 6 * 2 + 1


@pytest.mark.parametrize("layers", [1, 6])
def test_what_writes_into_the_residual_stream_is_smaller_by_depth(layers: int) -> None:
    weights = filled(Config(128, 96, layers, 4, 2, 256, 16, experts=3), ScaledNormal())
    for part, inputs in (("mixer.out", 96), ("mlp.experts.2.down", 256)):
        assert weights[f"blocks.0.{part}.weight"].std().item() == pytest.approx(0.7 / inputs**0.5 / (2 * layers) ** 0.5, rel=0.05)
    assert weights["blocks.0.mixer.qkv.weight"].std().item() == pytest.approx(0.7 / 96**0.5, rel=0.05)
    assert weights["blocks.0.mlp.router.weight"].std().item() == pytest.approx(96**-0.5, rel=0.15)


def test_gains_that_are_stored_minus_one_begin_at_zero() -> None:
    weights = filled(Config(64, 16, 1, 2, 2, 32, 8, norm_offset=True, qk_norm=True), ScaledNormal())
    assert weights["norm.weight"].eq(0).all() and weights["blocks.0.mixer.q_norm.weight"].eq(1).all()


def test_same_name_same_numbers_whatever_else_there_is() -> None:
    small, deep = filled(Config(64, 16, 1, 2, 2, 32, 8), ScaledNormal()), filled(Config(64, 16, 3, 2, 2, 32, 8), ScaledNormal())
    assert torch.equal(small["blocks.0.mixer.qkv.weight"], deep["blocks.0.mixer.qkv.weight"])
    assert not torch.equal(deep["blocks.0.mixer.qkv.weight"], deep["blocks.1.mixer.qkv.weight"])
    assert not torch.equal(small["embed.weight"], filled(Config(64, 16, 1, 2, 2, 32, 8), ScaledNormal(), seed=1)["embed.weight"])
    for knobs in ({"std": -1}, {"fan_in": -1}):
        with pytest.raises(ValueError, match="must"):
            ScaledNormal(**knobs)

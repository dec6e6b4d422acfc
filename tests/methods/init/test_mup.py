"""Maximal update parametrization: a closed form at the base, multipliers and rates, and the coordinate check."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.methods.init.mup import Mup
from bloomery.methods.init.scaled_normal import ScaledNormal
from bloomery.methods.module.low_rank import LowRank
from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.config import Config
from bloomery.nn.hf import read_config, to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.modules import fit
from bloomery.num.cross_entropy import head_cross_entropy
from bloomery.seams import Rng, Source
from bloomery.train.optimizer import Optimizer

torch.set_num_threads(1)
WIDTHS, STEPS = (32, 64, 128, 256, 512), 4
SITES = ("embed", "blocks.0.mixer", "blocks.0.mlp", "blocks.1.mixer", "blocks.1.mlp")


def config(width: int, **changes) -> Config:
    """Four heads that grow with the width."""
    return Config(64, width, 2, 4, 4, 2 * width, 32, **changes)


def begun(method: Mup | ScaledNormal, cfg: Config) -> Transformer:
    net = Transformer(method.shape(cfg) if hasattr(method, "shape") else cfg)
    method.apply(Source(net), (), None, Rng((0, "init")))
    return net


def test_at_the_base_it_is_the_standard_parametrization() -> None:
    ours, plain = begun(Mup(base=32, head=8), config(32)), begun(ScaledNormal(), config(32))
    assert all(p.equal(other) for p, other in zip(ours.parameters(), plain.parameters(), strict=True))
    assert set(Mup(base=32).rates(ours).values()) == {1.0}
    row = torch.arange(20)[None]
    torch.testing.assert_close(ours.logits(ours(row)), plain.logits(plain(row)))


def test_deviations_multipliers_and_rates_follow_table_8() -> None:
    method, cfg = Mup(base=64, head=16), config(256, tied=False, experts=6, norm="layer", positions="learned")
    net = begun(method, cfg)
    rates, weights = method.rates(net), dict(net.named_parameters())
    assert net.cfg.head_divisor == 4.0 and net.blocks[0].mixer.scale == pytest.approx(16**0.5 / 64)
    wanted = {"embed.weight": (1 / 8, 1.0), "positions.weight": (1 / 8, 1.0), "head.weight": (1 / 8, 1.0)}
    wanted |= {"blocks.1.mixer.qkv.weight": (0.7 / 16, 0.25), "blocks.0.mixer.out.weight": (0.7 / 16 / 2, 0.25)}
    wanted |= {"blocks.0.mlp.experts.5.gate_up.weight": (0.7 / 16, 0.25), "blocks.1.mlp.experts.0.down.weight": (0.7 / 512**0.5 / 2, 0.25)}
    wanted |= {"blocks.0.mlp.router.weight": (1 / 8 / 4, 0.25)}
    for name, (std, rate) in wanted.items():
        assert weights[name].std().item() == pytest.approx(std, rel=0.05), name
        assert rates.get(name, 1.0) == rate, name
    assert not any(name in rates for name, p in weights.items() if p.dim() == 1)


def slopes(method: Mup | ScaledNormal) -> dict[str, float]:
    """How the size of each site's change over a few steps goes with the width: the exponent, by least squares in logarithms."""
    changes = [change(method, width) for width in WIDTHS]
    steps = [math.log2(width) - fmean(map(math.log2, WIDTHS)) for width in WIDTHS]
    return {
        site: sum(x * math.log2(one[site]) for x, one in zip(steps, changes, strict=True)) / sum(x * x for x in steps)
        for site in changes[0]
    }


def change(method: Mup | ScaledNormal, width: int) -> dict[str, float]:
    """Root-mean-square change of what each site puts out, after a few steps of AdamW on one batch."""
    net, seen, first = begun(method, config(width)), {}, {}
    for name in SITES:
        net.get_submodule(name).register_forward_hook(lambda _, given, out, name=name: seen.update({name: out.detach()}))
    driver = Optimizer(net, AdamW(), Rng((0,)), rates=method.rates(net) if hasattr(method, "rates") else None)
    ids = torch.randint(0, 64, (8, 33), generator=torch.Generator().manual_seed(1))
    for step in range(STEPS + 1):
        hidden = net(ids[:, :-1])
        seen["logits"] = net.logits(hidden).detach()
        first = first or dict(seen)
        if step < STEPS:
            head_cross_entropy(net, hidden.flatten(0, 1), ids[:, 1:].flatten(), torch.ones(256)).div(256).backward()
            driver.collect()
            driver.step(1e-2, step + 1)
    return {name: (now - first[name]).square().mean().sqrt().item() for name, now in seen.items()}


def test_coordinate_check() -> None:
    """From width 32 to 512 no site's change grows or shrinks; with one rate for all parameters all that lies behind a matrix does."""
    flat, steep = slopes(Mup(base=32, head=8)), slopes(ScaledNormal())
    print({name: (round(flat[name], 2), round(steep[name], 2)) for name in flat})
    for name in SITES:
        assert abs(flat[name]) < 0.12, name
        assert name == "embed" or steep[name] > 1.0, name
    assert -0.35 < flat["logits"] < 0.1 and steep["logits"] > 0.2  # what the first weights give shrinks towards a limit


def test_other_tools_can_say_it_and_what_it_does_not_know_is_refused(tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    net = begun(Mup(base=32, head=32), config(96)).eval()
    to_hf(net, None, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    row = torch.arange(40)[None] % 64
    with torch.no_grad():
        assert type(theirs).__name__ == "GraniteForCausalLM"
        assert (theirs(row).logits - net.logits(net(row))).abs().max() < 1e-5
    assert read_config(theirs.config.to_dict(), tmp_path) == net.cfg
    fit(net, [LowRank()], Rng((0,)))
    with pytest.raises(BadInput, match="mup has no rate for blocks"):
        Mup().rates(net)
    for knobs in ({"base": 0}, {"head": 0}, {"std": -1.0}):
        with pytest.raises(ValueError, match="must be at least"):
            Mup(**knobs)

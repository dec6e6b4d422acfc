"""Random codes, and models whose linears they stand for, that tests of formats write."""

from __future__ import annotations

import torch

from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed
from bloomery.seams import Rng


def packed_of(rows: int, columns: int, bits: int = 4, group: int = 32, zeros: bool = False, seed: int = 0, signed: bool = False) -> Packed:
    """Scales are positive unless `signed`."""
    draw, edge, groups = torch.Generator().manual_seed(seed), 1 << (bits - 1), -(-columns // group)
    codes = torch.randint(-edge, edge, (rows, columns), generator=draw).to(torch.int8)
    zero = torch.randint(-edge, edge, (rows, groups), generator=draw).to(torch.int8) if zeros else None
    scales = torch.rand(rows, groups, generator=draw)
    return Packed(codes, ((scales - 0.4) / edge if signed else scales / (4 * edge)).half(), zero, bits, group)


def model(cfg: Config, **knobs) -> tuple[Transformer, dict[str, Packed]]:
    """A random net whose linears are what codes stand for."""
    net = Transformer(cfg, Rng((7,)))
    linears = {name: unit for name, unit in net.named_modules() if isinstance(unit, torch.nn.Linear) and name != "head"}
    packed = {name: packed_of(*unit.weight.shape, seed=i, **knobs) for i, (name, unit) in enumerate(linears.items())}
    with torch.no_grad():
        for name, one in packed.items():
            linears[name].weight.copy_(one.dense())
    return net.eval(), packed

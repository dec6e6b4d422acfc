"""What tests of this folder make smaller: a random network whose weights are loud enough that rounding them shows, and token ids."""

from __future__ import annotations

import torch

from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

CFG = Config(vocab=61, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=24)


def model(cfg: Config = CFG, seed: int = 0) -> Transformer:
    net = Transformer(cfg, Rng((seed,))).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    return net


def texts(count: int = 12, shortest: int = 2, longest: int = 24) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        length = int(torch.randint(shortest, longest + 1, (1,), generator=g)) if shortest < longest else longest
        found.append(torch.randint(0, CFG.vocab, (length,), generator=g))
    return found

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bloomery.core.rng import torch_rng
from bloomery.nn.norm import neutral
from bloomery.nn.sites import residual, sites
from bloomery.seams import Rng, Source, Tools


@dataclass(frozen=True)
class ScaledNormal:
    """Normal weights; layers that write into the residual stream are smaller by the root of how many write.

    Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)
    Differs: deviations follow the fan-in instead of 0.02 (which a width of 192 leaves near its unigram plateau for long); every
    parameter has a random stream of its own name.
    Costs: nothing.
    """

    std: float = 0.0  # deviation of embeddings and head; 0 = 1 / sqrt(width)
    fan_in: float = 0.7  # linear layers of the blocks have deviation fan_in / sqrt(inputs); 0 = they have `std` as well
    draws = True

    def __post_init__(self) -> None:
        for name in ("std", "fan_in"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @torch.no_grad()
    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None:
        """Fill every parameter of `into.net`: gains with 1, biases with 0, matrices with normal numbers."""
        neutral(into.net)
        linear = {f"{site.name}.weight": site for site, _ in sites(into.net) if site.kind == "linear"}
        for name, p in into.net.named_parameters():
            if p.dim() > 1:
                std = self.std or p.shape[1] ** -0.5
                if name in linear:
                    std = self.fan_in / p.shape[1] ** 0.5 if self.fan_in else std
                    std /= residual(linear[name])
                p.normal_(0.0, std, generator=torch_rng(rng.child(name)))

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from bloomery.core.errors import BadInput
from bloomery.core.rng import torch_rng
from bloomery.nn.config import Config
from bloomery.nn.mixture import Mixture
from bloomery.nn.norm import neutral
from bloomery.nn.sites import residual, sites
from bloomery.seams import Rng, Source, Tools


@dataclass(frozen=True)
class Mup:
    """Maximal update parametrization: every layer learns at the same pace whatever the width, so the best rate of a narrow model stays.

    Yang et al. 2022, Tensor Programs V, arXiv 2203.03466
    Differs: in the form of the paper's table 8 (an output multiplier, and the same rate for embedding and head), so that the head may be
    the embedding; neither head nor queries begin at zero. Weight decay is not multiplied with the rates. Layers that write into the
    residual stream are smaller by the root of how many do, which is about depth and not the paper's.
    Costs: 4 bytes for each parameter, its factor on the rate; such a model is exported as Granite, which has words for the multipliers.
    """

    base: int = 64  # width at which this is the standard parametrization; rates mean what they mean there
    head: int = 64  # width of a head at which scores are divided by its root; others are divided by their width
    std: float = 0.0  # deviation of embeddings and head; 0 = 1 / sqrt(base)
    fan_in: float = 0.7  # linear layers of the blocks have deviation fan_in / sqrt(inputs)
    draws = True
    elementwise = True
    space = {"rate": (5e-4, 3e-2)}

    def __post_init__(self) -> None:
        for name, least in (("base", 1), ("head", 1), ("std", 0), ("fan_in", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def shape(self, cfg: Config) -> Config:
        """The multipliers of logits and of scores."""
        scalar = float(f"{cfg.head_width**2 / self.head:.12g}")  # scores are divided by its root
        named = "granite" if cfg.architecture == "llama" else cfg.architecture
        return replace(cfg, head_divisor=cfg.head_divisor * cfg.width / self.base, query_scalar=scalar, architecture=named)

    def rates(self, net: nn.Module) -> dict[str, float]:
        """base / width for what reads a width that grows and is stored without a multiplier: linear layers of the blocks and routers.

        BadInput for a matrix of which this says nothing.
        """
        found = dict.fromkeys((*linears(net), *routers(net)), self.base / net.cfg.width)
        known = {id(p) for site, unit in sites(net) if site.kind in ("embed", "head") for p in unit.parameters()}
        for name, p in net.named_parameters():
            if p.dim() > 1 and name not in found and id(p) not in known:
                raise BadInput(f"init: mup has no rate for {name}, a part that a module of the recipe brings; leave one of them out")
        return found

    @torch.no_grad()
    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None:
        """Fill every parameter of `into.net`: gains with 1, biases with 0, matrices with normal numbers."""
        neutral(into.net)
        fixed, linear, outward = self.std or self.base**-0.5, linears(into.net), routers(into.net)
        for name, p in into.net.named_parameters():
            if p.dim() > 1:
                std = fixed * self.base / into.net.cfg.width if name in outward else fixed
                if name in linear:
                    std = self.fan_in / p.shape[1] ** 0.5 / linear[name]
                p.normal_(0.0, std, generator=torch_rng(rng.child(name)))


def linears(net: nn.Module) -> dict[str, float]:
    """Matrices from one width that grows to another, each with what its deviation is divided by because of depth."""
    found = {f"{site.name}.weight": residual(site) for site, _ in sites(net) if site.kind == "linear"}
    return found | {"transform.dense.weight": 1.0} if net.transform is not None else found


def routers(net: nn.Module) -> list[str]:
    """Matrices from a width that grows to a number of experts that does not."""
    return [f"{name}.router.weight" for name, unit in net.named_modules() if isinstance(unit, Mixture)]

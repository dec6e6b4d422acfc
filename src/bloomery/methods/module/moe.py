from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bloomery.core.rng import torch_rng
from bloomery.nn.empty import emptied
from bloomery.nn.feedforward import FeedForward
from bloomery.nn.mixture import Mixture
from bloomery.seams import Rng, Site


@dataclass(frozen=True)
class MoE:
    """Several small feed-forwards in the place of one: a router sends each token to the few that it finds most likely.

    Shazeer et al. 2017, Outrageously Large Neural Networks, arXiv 1701.06538
    Differs: no noise is added to the router; no expert has a capacity, so no token is left out; the balance is the loss's business, which
    finds probabilities and choices under "router" in the pass's `aux`.
    Costs: as many numbers for a token as a feed-forward of `top` x `ffn` units; as many parameters as all experts hold.
    """

    experts: int = 8  # feed-forwards of a layer
    top: int = 2  # experts that a token goes to
    ffn: int = 0  # hidden units of an expert; 0 = the model's divided by `top`, so that a token costs the same
    normalised: bool = True  # the weights of a token's experts are scaled to sum to 1
    site = "mlp"
    space = {"rate": (5e-4, 1e-2)}

    def __post_init__(self) -> None:
        if not 1 <= self.top <= self.experts:
            raise ValueError(f"top must be between 1 and the {self.experts} experts, got {self.top}")
        if self.ffn < 0:
            raise ValueError(f"ffn must not be negative, got {self.ffn}")

    @torch.no_grad()
    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module:
        """Experts of normal weights as wide as those of `old` are, and a router; ValueError where `old` is no plain feed-forward."""
        if type(old) is not FeedForward:
            raise ValueError(f"it is a {type(old).__name__} and no plain feed-forward")
        small = replace(cfg, ffn=self.ffn or max(1, cfg.ffn // self.top))
        with torch.device("meta"):
            m = Mixture(small, self.experts, self.top, self.normalised)
        like, stds = next(old.parameters()), {name: float(p.std()) if p.dim() > 1 else 0.0 for name, p in old.named_parameters()}
        m = emptied(m, like.device, like.dtype)
        m.router.weight.normal_(0.0, cfg.width**-0.5, generator=torch_rng(rng.child("router")))
        for number, expert in enumerate(m.experts):
            for name, p in expert.named_parameters():
                p.normal_(0.0, stds[name], generator=torch_rng(rng.child(number, name)))
        return m

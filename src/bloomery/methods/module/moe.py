from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.rng import torch_rng
from bloomery.nn.context import Context
from bloomery.nn.model import FeedForward
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
            m = _Mixture(small, self.experts, self.top, self.normalised)
        like, stds = next(old.parameters()), {name: float(p.std()) if p.dim() > 1 else 0.0 for name, p in old.named_parameters()}
        m = m.to_empty(device=like.device).to(like.dtype)
        m.router.weight.normal_(0.0, cfg.width**-0.5, generator=torch_rng(rng.child("router")))
        for number, expert in enumerate(m.experts):
            for name, p in expert.named_parameters():
                p.normal_(0.0, stds[name], generator=torch_rng(rng.child(number, name)))
        return m


class _Mixture(nn.Module):
    """Shapes: N tokens, X experts, K of them for a token."""

    def __init__(self, cfg: Any, experts: int, top: int, normalised: bool) -> None:
        super().__init__()
        self.top, self.normalised = top, normalised
        self.router = nn.Linear(cfg.width, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(cfg) for _ in range(experts))

    def forward(self, x_BTD: Tensor, ctx: Context | None = None) -> Tensor:
        probs_BTX = self.router(x_BTD).float().softmax(-1)
        weight_BTK, chosen_BTK = probs_BTX.topk(self.top, dim=-1)
        if ctx is not None and ctx.aux is not None:
            ctx.aux.setdefault("router", []).append((probs_BTX, chosen_BTK))
        if self.normalised:
            weight_BTK = weight_BTK / weight_BTK.sum(-1, keepdim=True)
        x_ND, chosen_NK = x_BTD.flatten(0, -2), chosen_BTK.flatten(0, -2)
        weight_NK, out_ND = weight_BTK.flatten(0, -2).to(x_BTD.dtype), torch.zeros_like(x_ND)
        for number, expert in enumerate(self.experts):
            row, place = (chosen_NK == number).nonzero(as_tuple=True)
            out_ND = out_ND.index_add(0, row, expert(x_ND[row]) * weight_NK[row, place, None])
        return out_ND.view_as(x_BTD)

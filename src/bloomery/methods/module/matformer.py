from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.rng import python_rng
from bloomery.nn.context import Context
from bloomery.nn.model import FeedForward, Transformer
from bloomery.seams import Clock, Rng, Site


@dataclass(frozen=True)
class MatFormer:
    """Feed-forwards whose first hidden units are smaller feed-forwards: each step trains one of several widths, any width is in use.

    P113 Devvrit et al. 2023, arXiv 2310.07707
    Differs: each step trains one width, drawn for all layers alike, as in the paper; the authors' code sums the loss of all widths.
    Costs: nothing in use; the wide units see a share of the training steps only.
    """

    widths: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)  # shares of the hidden units that are trained as models of their own
    odds: tuple[float, ...] = ()  # how often each width is drawn, in proportion; none: all alike
    site = "mlp"
    space = {"rate": (5e-4, 1e-2)}

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) <= 0 or max(self.widths) != 1:
            raise ValueError(f"widths must be above 0, the greatest 1, got {self.widths}")
        if self.odds and (len(self.odds) != len(self.widths) or min(self.odds) <= 0):
            raise ValueError(f"odds must be one number above 0 for each width, got {self.odds}")

    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module:
        """The same feed-forward, its linears taken over; ValueError where it is no plain one."""
        parts = dict(old.named_children())
        if type(old) is not FeedForward or any(type(part) is not nn.Linear for part in parts.values()):
            kinds = [type(old), *(type(part) for part in parts.values())]
            raise ValueError(f"it is no plain feed-forward but of {', '.join(kind.__name__ for kind in kinds)}")
        with torch.device("meta"):
            m = _Nested(cfg)
        for name, part in parts.items():
            setattr(m, name, part)
        return m

    def before_step(self, m: nn.Module, clock: Clock, rng: Rng) -> None:
        """Draws the width of the step; all layers have the same stream, and so the same share."""
        (share,) = python_rng(rng).choices(self.widths, self.odds or None)
        m.trained = units(share, m.down.in_features)

    def export(self, m: nn.Module) -> nn.Module:
        """A plain feed-forward of the width in use."""
        return m.plain()


def units(share: float, ffn: int) -> int:
    """Hidden units of a share, at least one."""
    return max(1, round(share * ffn))


def set_widths(net: Transformer, shares: Sequence[float]) -> None:
    """Which share of its units each layer has in use from here on (Mix'n'Match); one share is for all layers."""
    nested = [block.mlp for block in net.blocks]
    for m, share in zip(nested, shares if len(shares) > 1 else tuple(shares) * len(nested), strict=True):
        m.width = units(share, m.down.in_features)


class _Nested(FeedForward):
    """A feed-forward of its first `width` units, or, in training, of its first `trained` ones."""

    unsteady = True  # measured as it is in use

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.cfg = cfg
        self.width = self.trained = cfg.ffn

    def forward(self, x_BTD: Tensor, ctx: Context | None = None) -> Tensor:
        inner, down, bias = self.parts(self.trained if self.training else self.width)
        hidden = [F.linear(x_BTD, *one) for one in inner]
        return F.linear(self.act(hidden[0]) * hidden[1] if self.gated else self.act(hidden[0]), down, bias)

    def parts(self, width: int) -> tuple[list[tuple[Tensor, Tensor | None]], Tensor, Tensor | None]:
        """Weight and bias of gate and up, or of up alone; weight and bias of down."""
        into = self.gate_up if self.gated else self.up
        weights, biases = into.weight.split(self.cfg.ffn), (None, None) if into.bias is None else into.bias.split(self.cfg.ffn)
        inner = [(w[:width], None if b is None else b[:width]) for w, b in zip(weights, biases)]
        return inner, self.down.weight[:, :width], self.down.bias

    @torch.no_grad()
    def plain(self) -> FeedForward:
        inner, down, bias = self.parts(self.width)
        with torch.device("meta"):
            smaller = FeedForward(replace(self.cfg, ffn=self.width))
        for linear, weights, biases in (
            (smaller.gate_up if self.gated else smaller.up, [w for w, _ in inner], [b for _, b in inner]),
            (smaller.down, [down], [bias]),
        ):
            linear.weight = nn.Parameter(torch.cat(weights).clone())
            linear.bias = None if biases[0] is None else nn.Parameter(torch.cat(biases).clone())
        return smaller

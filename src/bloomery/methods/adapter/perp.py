"""Cheap recovery of pruned models: a low-rank change of the weights that are left, folded in at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bloomery.nn.lora import LoraLinear, Part
from bloomery.seams import Rng, Site


@dataclass(frozen=True)
class Perp:
    """Learn a low-rank change of the weights of a pruned model that are not zero; with rank 0, norms and biases alone.

    P300 Zimmer et al. 2023, arXiv 2312.15230
    Differs: of the paper's forms that fold in without touching zeros MaskLoRA ("mask") and ScaleLoRA ("scale") are here, LoRA-Prune is
    not; ScaleLoRA begins with one product of ones and others of zero, where equal ones would stay equal; norms, biases and head are
    trained where `train_also` names them, the head whole and not through a LoRA; matrices that our blocks fuse have a product each.
    Costs: rank x (inputs + outputs) parameters for each matrix; the changed weight of every linear is made in the forward pass and again
    in the backward pass, and is not kept between them.
    """

    rank: int = 16  # of the change; 0 = none, so that only what train_also names is trained
    form: Literal["mask", "scale"] = "mask"  # weights plus the product where they are not zero, or weights times the product
    alpha: float = 32.0  # with mask: the product is multiplied by alpha / rank
    whole = True
    keeps_zeros = True

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha <= 0:
            raise ValueError(f"rank must not be negative and alpha above 0, got {self.rank} and {self.alpha}")

    def wrap(self, unit: nn.Module, site: Site, parts: Sequence[tuple[str, int]], score: float | None, rng: Rng) -> nn.Module | None:
        """The linear with a product for each of its parts; None with rank 0, and where the site is no linear."""
        if not self.rank or site.kind != "linear" or not isinstance(unit, nn.Linear):
            return None
        parts = parts or ((site.name.rpartition(".")[2], unit.out_features),)
        return _Left(unit, [Part(name, rows, self.rank, self.alpha) for name, rows in parts], self.form, rng)

    def merge(self, unit: nn.Module) -> nn.Module | None:
        """The plain linear that computes the same, with every zero where it was."""
        return unit.merged() if isinstance(unit, _Left) else None


class _Left(LoraLinear):
    """y = x W'^T, where W' is zero wherever W is. Shapes: O outputs, I inputs, P rows of a part."""

    def __init__(self, base: nn.Linear, parts: Sequence[Part], form: str, rng: Rng) -> None:
        super().__init__(base, parts, rng=rng)
        self.form = form
        if form == "scale":  # a product of ones, so that nothing changes before the first step
            for a_RI, b_PR in zip(self.a.values(), self.b.values(), strict=True):
                a_RI.data[0], b_PR.data[:, 0] = 1, 1

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.training:
            return checkpoint(self.changed, x, use_reentrant=False, preserve_rng_state=False)
        return self.changed(x)

    def changed(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weights().to(x.dtype), self.base.bias)

    def weights(self) -> Tensor:
        """W' in fp32: a change that is small beside its weight would vanish in a sum of bfloat16."""
        pieces = []
        for part, w_PI in zip(self.parts, self.base.weight.float().split(self.rows), strict=True):
            product_PI = self.b[part.name].float() @ self.a[part.name].float()
            pieces.append(w_PI * product_PI if self.form == "scale" else torch.where(w_PI == 0, 0.0, w_PI + part.scale * product_PI))
        return torch.cat(pieces)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        bias = self.base.bias
        linear = nn.Linear(self.in_features, self.out_features, bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weights().to(self.base.weight.dtype))
        if bias is not None:
            linear.bias = nn.Parameter(bias.detach().clone())
        return linear.train(self.training)

"""Low-rank learning through rounding: what is trained is what the stored codes will compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bloomery.nn.lora import LoraLinear, Part
from bloomery.nn.packed import Packed, Quantized
from bloomery.num.grids import Grid
from bloomery.num.steps import apart_from_zero, half, on_grid
from bloomery.seams import Rng, Site


@dataclass(frozen=True)
class L4Q:
    """Add a low-rank product to the weights, round the sum, and train the product with the scales of the grid; codes alone are left.

    P222 Jeon et al. 2024, arXiv 2402.04902
    Differs: a shift for each group is learnt only where `symmetric` is off, since other formats hold none, and begins with the middle of
    the range; matrices that our blocks fuse have a product each; the paper's own backward pass is that of autograd with the rounded weight
    made twice. In bfloat16 scales are trained with its digits and stored with those of float16. The rule for the first scales is from
    memory: the paper's code was not at hand.
    Costs: rank x (inputs + outputs) numbers for each matrix and one for each group; the rounded weight of every linear is made in the
    forward pass and again in the backward pass, and is not kept between them.
    """

    bits: int = 4  # of a weight, 2 to 8
    group: int = 32  # inputs that share a scale; -1 = all
    symmetric: bool = True  # false: a shift for each group is learnt too
    rank: int = 16  # of the product
    alpha: float = 32.0  # the product is multiplied by alpha / rank
    whole = True

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, got {self.rank} and {self.alpha}")

    @property
    def grid(self) -> Grid:
        """The grids that training begins with."""
        return Grid(self.bits, self.group, self.symmetric)

    def wrap(self, unit: nn.Module, site: Site, parts: Sequence[tuple[str, int]], score: float | None, rng: Rng) -> nn.Module | None:
        """The linear on its grid with a product for each of its parts; None where the site is no linear."""
        if site.kind != "linear" or not isinstance(unit, nn.Linear):
            return None
        parts = parts or ((site.name.rpartition(".")[2], unit.out_features),)
        return _Rounded(unit, [Part(name, rows, self.rank, self.alpha) for name, rows in parts], self.grid, rng)

    def merge(self, unit: nn.Module) -> nn.Module | None:
        """The linear as codes, which computes the same."""
        return unit.merged() if isinstance(unit, _Rounded) else None


class _Rounded(LoraLinear):
    """y = x W'^T, where W' is the sum of the base and the product on a grid. Shapes: O outputs, I inputs, G groups of inputs."""

    def __init__(self, base: nn.Linear, parts: Sequence[Part], grid: Grid, rng: Rng) -> None:
        super().__init__(base, parts, rng=rng)
        self.grid, width = grid, grid.width(base.in_features)
        w_OGK = F.pad(base.weight.detach().float(), (0, -base.in_features % width)).unflatten(1, (-1, width))
        least, most, shift = w_OGK.amin(-1), w_OGK.amax(-1), None
        if grid.symmetric:
            scale = torch.maximum(least / grid.low, most / grid.high)
        else:
            scale = (most - least) / (grid.high - grid.low)
            shift = nn.Parameter((least - grid.low * scale).flatten().to(base.weight.dtype))
        self.scale, self.shift = nn.Parameter(scale.flatten().to(base.weight.dtype)), shift  # vectors, which weight decay leaves alone

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.training:
            return checkpoint(self.rounded, x, use_reentrant=False, preserve_rng_state=False)
        return self.rounded(x)

    def rounded(self, x: Tensor) -> Tensor:
        return F.linear(x, self.on_grid()[0].to(x.dtype), self.base.bias)

    def on_grid(self) -> tuple[Tensor, Tensor]:
        """W' in fp32, and its codes."""
        products = [part.scale * (self.b[part.name].float() @ self.a[part.name].float()) for part in self.parts]
        w_OI = self.base.weight.float() + torch.cat(products)
        steps = (None if t is None else t.float().view(len(w_OI), -1) for t in (self.scale, self.shift))
        scale_OG, shift_OG = steps
        width = self.grid.width(self.in_features)
        return on_grid(w_OI, scale_OG, width, self.grid.low, self.grid.high, shift_OG=shift_OG)

    @torch.no_grad()
    def merged(self) -> Quantized:
        rows, width = self.out_features, self.grid.width(self.in_features)
        scale_OG = apart_from_zero(self.scale.float().view(rows, -1)).half()
        small = Packed(self.on_grid()[1].to(torch.int8), scale_OG, None, self.grid.bits, width, method="l4q")
        if self.shift is not None:
            small = replace(small, shift_OG=half(self.shift.float().view(rows, -1)).half())
        return Quantized(small, self.base.bias, self.base.weight.dtype).train(self.training)

"""What a model may round activations to before it multiplies them: inputs of linears, and what attention multiplies.

The numbers stay in their type and the product is made in it too, so this shows what such arithmetic costs in quality; it saves no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bloomery.core.errors import BadInput

HIGHEST = {"int8": 127.0, "fp8": 448.0}  # the largest number of each kind
INPUTS = tuple(HIGHEST)
LEAST = 1e-15  # below this share of the scale a number is 0 on a grid of powers


@dataclass(frozen=True, eq=False)
class Rounding:
    """A fixed grid that activations are rounded to, found on calibration data.

    With `steps` 0 the grid is even: low + code x scale, codes from 0 to 2^bits - 1. Else it is one of powers, low + scale x level:
    codes count -log2 of a share of the scale, so many to each halving, and `levels` say what they stand for (2^(-code / steps), about);
    what is past the last is 0. `scale` and `low` are of one number, or of one for each place that they are broadcast to.
    """

    bits: int
    scale: Tensor  # float32, above 0
    low: Tensor  # float32
    steps: float = 0.0
    levels: tuple[float, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest numbers of the grid; BadInput where a gradient is wanted, which would be 0 without a word."""
        if x.requires_grad and torch.is_grad_enabled():
            raise BadInput("the model rounds its activations, through which nothing is learnt; train the model that it was made from")
        wide = (x.float() - self.low) / self.scale
        if not self.steps:
            return (wide.round().clamp(0, (1 << self.bits) - 1) * self.scale + self.low).to(x.dtype)
        codes = (-wide.clamp(LEAST, 1.0).log2() * self.steps).round().long()
        levels = torch.tensor((*self.levels, 0.0), device=x.device)
        return (levels[codes.clamp(max=len(self.levels))] * self.scale + self.low).to(x.dtype)

    def about(self) -> dict[str, Any]:
        """What is said of it in quantization.json beside its tensors."""
        return {"bits": self.bits, "steps": self.steps, "levels": list(self.levels)}

    def __str__(self) -> str:
        return f"{self.bits}-bit"


class Rounds(NamedTuple):
    """The grids of an attention: of rotated queries and keys, of values (each for all heads, or one for each), and of the weights."""

    q: Rounding
    k: Rounding
    v: Rounding
    weights: Rounding

    def about(self) -> dict[str, Any]:
        """All of it as quantization.json holds it."""
        return {
            name: {**one.about(), "scale": one.scale.flatten().tolist(), "low": one.low.flatten().tolist()}
            for name, one in self._asdict().items()
        }


def read(about: Any, scale: Any, low: Any) -> Rounding:
    """A grid as it was described; ValueError for what is none."""
    bits, steps, levels = about["bits"], about["steps"], about["levels"]
    scale, low = (torch.as_tensor(t, dtype=torch.float32) for t in (scale, low))
    sound = type(bits) is int and 1 <= bits <= 16 and steps >= 0 and len(levels) == ((1 << bits) if steps else 0)
    if not sound or scale.shape != low.shape or not bool((scale > 0).all() and scale.isfinite().all() and low.isfinite().all()):
        raise ValueError(f"no grid of {bits!r} bits")
    return Rounding(bits, scale, low, float(steps), tuple(map(float, levels)))


def read_rounds(about: Any) -> Rounds:
    """The grids of an attention as they were described, one to a head as (H, 1); KeyError, TypeError or ValueError for what is none."""
    found = {}
    for name in Rounds._fields:
        one = about[name]
        scale, low = (torch.tensor(one[part], dtype=torch.float32) for part in ("scale", "low"))
        found[name] = read(one, *(t if len(t) == 1 else t[:, None] for t in (scale, low)))
    return Rounds(**found)


def rounded(x: Tensor, kind: str | Rounding) -> Tensor:
    """`x` (..., I) on a fixed grid, or with every token's numbers on the grid of `kind`: whole numbers for "int8", e4m3 (Micikevicius et
    al. 2022, arXiv 2209.05433) for "fp8", times the token's largest magnitude over the largest of the kind. A token of zeros stays one."""
    if isinstance(kind, Rounding):
        return kind(x)
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True) / HIGHEST[kind]
    steps = wide / torch.where(scale > 0, scale, 1)
    steps = steps.round() if kind == "int8" else steps.to(torch.float8_e4m3fn).float()
    return (steps * scale).to(x.dtype)

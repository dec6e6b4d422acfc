"""Rotary positions; Su et al. 2021, arXiv 2104.09864.

Shapes: B rows, T tokens, H heads, E head width, R <= E numbers of a head that are rotated (its first ones), r = R / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bloomery.nn.config import Config, RopeScaling


def rotary(positions_BT: Tensor, width: int, base: float, scaling: RopeScaling | None = None) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position, each (B, T, width / 2) in fp32."""
    frequency_r = frequencies(width, base, scaling, positions_BT.device)
    angle = positions_BT[..., None].float() * frequency_r
    if scaling is None or (size := amplitude(scaling)) == 1.0:
        return angle.cos(), angle.sin()
    return angle.cos() * size, angle.sin() * size


def turns(cfg: Config, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a model."""
    return rotary(positions_BT, cfg.rotary_width, cfg.rope_base, cfg.rope_scaling)


def frequencies(width: int, base: float, scaling: RopeScaling | None, device: torch.device) -> Tensor:
    """Radians for each position, the fastest first, (width / 2) in fp32."""
    exponent = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    frequency = 1.0 / base**exponent
    if scaling is None:
        return frequency
    if scaling.kind == "linear":  # Chen et al. 2023, arXiv 2306.15595
        return frequency / scaling.factor
    return (yarn if scaling.kind == "yarn" else llama3)(frequency, width, base, scaling)


def yarn(frequency_r: Tensor, width: int, base: float, scaling: RopeScaling) -> Tensor:
    """Slow frequencies divided by the factor, fast ones kept, a ramp over their numbers between; Peng et al. 2023, arXiv 2309.00071."""

    def number(rotations: float) -> float:
        return width * math.log(scaling.original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = number(scaling.high), number(scaling.low)
    low, high = (math.floor(low), math.ceil(high)) if scaling.truncate else (low, high)
    low, high = max(low, 0), min(high, width - 1)
    order = torch.arange(width // 2, dtype=torch.float32, device=frequency_r.device)
    kept = 1 - ((order - low) / (high - low or 0.001)).clamp(0, 1)
    return frequency_r / scaling.factor * (1 - kept) + frequency_r * kept


def llama3(frequency_r: Tensor, width: int, base: float, scaling: RopeScaling) -> Tensor:
    """Slow frequencies divided by the factor, fast ones kept, a ramp over their turns between; Dubey et al. 2024, arXiv 2407.21783."""
    rotations = scaling.original / (2 * math.pi / frequency_r)
    kept = ((rotations - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return frequency_r / scaling.factor * (1 - kept) + frequency_r * kept


def amplitude(scaling: RopeScaling) -> float:
    """What cosine and sine are multiplied by."""
    if scaling.kind != "yarn":
        return 1.0
    return (0.1 * math.log(max(scaling.factor, 1.0)) + 1.0) if scaling.attention is None else scaling.attention


def rotate(x_BTHE: Tensor, cos_BTr: Tensor, sin_BTr: Tensor, scale: float = 1.0, heads: int = 2) -> Tensor:
    """Turns the halves of what is rotated of each head by its position, in fp32, all times `scale`; returns the dtype of `x`.

    `heads` is the dimension of the heads: 1 for (B, H, T, E).
    """
    x, turned = x_BTHE.float(), 2 * cos_BTr.shape[-1]
    first, second = x[..., :turned].chunk(2, dim=-1)
    cos, sin = cos_BTr.unsqueeze(heads), sin_BTr.unsqueeze(heads)
    if scale != 1.0:
        cos, sin = cos * scale, sin * scale
    parts = [first * cos - second * sin, second * cos + first * sin]
    if turned < x.shape[-1]:
        parts.append(x[..., turned:] * scale)
    return torch.cat([part.to(x_BTHE.dtype) for part in parts], dim=-1)


def turn(x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor) -> Tensor:
    """The same rotation in few operations, for decoding; cosine and sine as from `widen`, (B or 1, T, 1, R)."""
    x, turned = x_BTHE.float(), cos_BT1R.shape[-1]
    if turned == x.shape[-1]:
        return torch.addcmul(x * cos_BT1R, x.roll(turned // 2, -1), sin_BT1R).to(x_BTHE.dtype)
    part = x[..., :turned]
    part = torch.addcmul(part * cos_BT1R, part.roll(turned // 2, -1), sin_BT1R)
    return torch.cat((part, x[..., turned:]), dim=-1).to(x_BTHE.dtype)


def widen(cos_BTr: Tensor, sin_BTr: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine of both halves, (B, T, 1, R): what `turn` multiplies by."""
    return torch.cat((cos_BTr, cos_BTr), dim=-1)[:, :, None], torch.cat((-sin_BTr, sin_BTr), dim=-1)[:, :, None]

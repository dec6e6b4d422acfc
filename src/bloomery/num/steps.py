"""Rounding that gradients pass, and grids whose scales learn along.

Esser et al. 2019, LSQ, arXiv 1902.08153; Bhalgat et al. 2020, LSQ+, arXiv 2004.09576 (shifts). Scales and shifts count as rounded to
float16 throughout, so what is trained is what is stored: `nn.packed.Packed` gives the very same numbers.

Shapes: O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bloomery.nn.packed import spread

LEAST = 2.0**-14  # magnitude of a scale, about: below it float16 loses digits


def straight(exact: Tensor, rough: Tensor) -> Tensor:
    """The numbers of `rough` with the gradient of `exact`."""
    return exact + (rough - exact).detach()


def half(t: Tensor) -> Tensor:
    """The nearest float16 numbers, in float32; the gradient passes."""
    return straight(t, t.half().float())


def apart_from_zero(scale: Tensor) -> Tensor:
    """Scales of either sign with a magnitude of `LEAST` at least; the gradient passes."""
    return straight(scale, torch.where(scale < 0, scale.clamp(max=-LEAST), scale.clamp(min=LEAST)))


def on_grid(
    w_OI: Tensor, scale_OG: Tensor, group: int, low: int, high: int, zero_OG: Tensor | None = None, shift_OG: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The weight as (code - zero) x scale + shift, and its codes as whole numbers in the weight's type.

    Gradients: of a weight whose code is within its ends, 1, else 0; of a scale, code - w / scale within, and the end without, which is
    LSQ's; of a zero and a shift, what follows from them where a code is cut off.
    """
    columns = w_OI.shape[1]
    scale_OI = spread(half(apart_from_zero(scale_OG)), group, columns)
    zero_OI: Tensor | float = 0.0
    if zero_OG is not None:
        zero_OI = spread(straight(zero_OG, zero_OG.round().clamp(low, high)), group, columns)
    shift_OI = None if shift_OG is None else spread(half(shift_OG), group, columns)
    steps_OI = (w_OI if shift_OI is None else w_OI - shift_OI) / scale_OI
    codes_OI = (straight(steps_OI, steps_OI.round()) + zero_OI).clamp(low, high)
    value_OI = (codes_OI - zero_OI) * scale_OI
    return (value_OI if shift_OI is None else value_OI + shift_OI), codes_OI.detach()

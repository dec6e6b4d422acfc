from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bloomery.seams import Site

FINE = 2.0**-8  # a number moved by this share of itself and then rounded to bfloat16 does not pass the place it came from
LEVELS = 255


@dataclass(frozen=True)
class Mesa:
    """Activations are kept in 8 bits for the backward pass, in groups with ranges of their own; the forward pass is exact.

    P075 Pan et al. 2021, Mesa, arXiv 2111.11124
    Differs: ranges are measured on the numbers at hand, token by token, where the paper keeps running estimates of each head over all
    tokens; groups know nothing of heads, and lie within one only where `group` divides its width. A last axis that `group` does not
    divide has one range for all of it. Codes are rounded to the nearest, not at random.
    Costs: rounding and its reversal in every layer; 4 bytes for every `group` numbers.
    """

    group: int = 32  # numbers of the last axis that share a range: a head's width or a divisor keeps heads apart; 0 = one for a tensor

    def __post_init__(self) -> None:
        if self.group < 0:
            raise ValueError(f"group must not be negative, got {self.group}")

    def pack(self, t: Tensor, site: Site) -> Any:
        """Codes (uint8), and the lowest number and the step of each group in bfloat16: no number is off by more than half a step."""
        width = t.shape[-1] if t.dim() else 1
        each = max(1, t.numel()) if not self.group else self.group if width % self.group == 0 else max(1, width)
        rows = t.reshape(-1, each).float()
        least, most = rows.aminmax(dim=-1, keepdim=True)
        low = (least - least.abs() * FINE).bfloat16()
        step = ((most - low.float()) / LEVELS * (1 + FINE)).bfloat16()
        codes = (rows - low.float()).div_(step.float().clamp(min=torch.finfo(torch.float32).tiny)).round_().clamp_(0, LEVELS)
        return codes.to(torch.uint8), low, step, tuple(t.shape), t.dtype

    def unpack(self, h: Any) -> Tensor:
        """The activation again, in its shape and type."""
        codes, low, step, shape, dtype = h
        rows = codes.float().mul_(step.float()).add_(low.float())
        return rows.reshape(shape).to(dtype)

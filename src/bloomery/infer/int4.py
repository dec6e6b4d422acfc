"""Linears of 4-bit codes with a scale and a zero for each group of inputs.

Shapes: R rows, O outputs, I inputs, G groups of inputs.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bloomery.infer.codes import FEW, Codes, to_nearest
from bloomery.infer.dense import Half
from bloomery.infer.int8 import Int8Inputs
from bloomery.nn.inputs import rounded
from bloomery.nn.packed import Packed
from bloomery.num.grids import Grid

GROUPS = (32, 64, 128, 256)
LONG = 96  # tokens of one text from which on a weight is made dense for its product,
PANEL = 512  # so many outputs at a time that they stay in a cache


class Int4(Codes):
    """4-bit codes, two a byte, times a scale and plus a zero for each group of inputs."""

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.group, self.wide = packed.group, None
        codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(packed.codes_OI.int() + 8, 2)
        scale = packed.scale_OG.float()
        zero = torch.zeros_like(scale) if packed.zero_OG is None else -packed.zero_OG.float() * scale
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", torch.stack([scale, zero], -1).transpose(0, 1).contiguous().to(dtype), persistent=False)

    def widen(self) -> None:
        """A dense copy, four times as large."""
        self.wide = Half(self.dense(), None)

    def product(self, x_RI: Tensor, tokens: int) -> Tensor:
        if self.wide is not None and len(x_RI) >= FEW:
            return self.wide(x_RI)
        return self.narrow(x_RI, tokens)

    def narrow(self, x_RI: Tensor, tokens: int) -> Tensor:
        """The product without the copy."""
        if tokens < LONG or not lanes():
            return self.packed(x_RI)
        out = x_RI.new_empty(len(x_RI), self.out_features)
        for at in range(0, self.out_features, PANEL):
            out[:, at : at + PANEL] = x_RI @ self.panel(at)
        return out

    def packed(self, x_RI: Tensor) -> Tensor:
        """torch's product on the codes."""
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x_RI, self.codes, self.group, self.scales)

    def dense(self) -> Tensor:
        """By the product itself, where the layout of the bytes is not known."""
        if lanes():
            return torch.cat([self.panel(at) for at in range(0, self.out_features, PANEL)], 1).T.contiguous()
        return self.packed(torch.eye(self.in_features, dtype=self.dtype, device=self.codes.device)).T.contiguous()

    def panel(self, at: int) -> Tensor:
        """Columns of the dense weight's transpose: of the inputs to the outputs from `at` on, (I, up to PANEL)."""
        scale, zero = self.scales[:, at : at + PANEL].float().unbind(-1)
        grouped = unpacked(self.codes[at : at + PANEL]).view(len(scale), self.group, -1)
        return grouped.mul_(scale[:, None]).add_((zero - 8 * scale)[:, None]).view(self.in_features, -1).to(self.dtype)

    @staticmethod
    def unfit(packed: Packed) -> str:
        """Why these codes cannot be multiplied so; "" where they can."""
        rows, columns = packed.shape
        if packed.bits != 4 or packed.group not in GROUPS or columns % packed.group:
            return f"4-bit products take groups of {', '.join(map(str, GROUPS))} inputs"
        return "" if rows % 64 == 0 else "4-bit products take multiples of 64 rows"


class Int4Inputs(Int4):
    """The same with inputs rounded to 8 bits with a scale for each token, as nn/inputs.py says. The copy that `widen` keeps is of 8 bits
    with a scale for each output, the 4-bit weights rounded once more, and its products are of whole numbers."""

    def widen(self) -> None:
        """A copy of 8 bits, twice as large."""
        self.wide = Int8Inputs(to_nearest(self.dense(), Grid(8, -1)), None, self.dtype)

    def narrow(self, x_RI: Tensor, tokens: int) -> Tensor:
        return super().narrow(rounded(x_RI, "int8"), tokens)


def unpacked(packed: Tensor, width: int = 0) -> Tensor:
    """The codes 0 to 15 in the bytes of some outputs' 4-bit weights, (I, O) fp32: `width` outputs lie side by side for every input, the
    second half of them in the high bits."""
    width = width or lanes()
    bytes_ION = packed.view(len(packed) // width, -1, width // 2).transpose(0, 1)
    codes = torch.empty(*bytes_ION.shape[:2], width, device=packed.device)
    codes[..., : width // 2], codes[..., width // 2 :] = bytes_ION & 15, bytes_ION >> 4
    return codes.flatten(1)


@cache
def lanes() -> int:
    """Outputs that the 4-bit kernel lays side by side on this processor; 0 where it lays them in another way than `unpacked` reads."""
    codes = torch.arange(64 * 64, dtype=torch.int32).view(64, 64) * 7 // 3 % 16
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 2)
    return next((width for width in (64, 32) if torch.equal(unpacked(packed, width).T, codes.float())), 0)

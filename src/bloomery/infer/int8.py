"""Linears of 8-bit codes with a scale for each output.

Shapes: R rows, O outputs, I inputs.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from bloomery.infer.codes import FEW, Codes
from bloomery.infer.dense import HINT, lone, summed
from bloomery.nn.packed import Packed

LONG = 128  # tokens of one text from which on a weight is made dense for its product


class Int8(Codes):
    """8-bit codes times a scale for each output.

    torch's product takes the same time for every row, and for one of them more than reading the codes does: a compiled step of a lone row
    adds up the products itself. From FEW rows on a bfloat16 input, whose numbers have 8 bits each, is cut into two pieces of 8 bits under
    one scale for each token: two products of whole numbers, which the processor makes four at a time and whose sums are exact, so that no
    row depends on another. What is lost is at most 2^-15 of a token's largest input, less than a bfloat16 output shows.

    `blocks` are a second copy of the codes, as oneDNN multiplies by them: the same sums. With `constant`, in a graph whose weights are
    constants, the graph makes them.
    """

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.blocks: Tensor | None = None
        self.constant, self.whole = False, whole_products()
        self.register_buffer("codes", packed.codes_OI.contiguous(), persistent=False)
        self.register_buffer("scale", packed.scale_OG[:, 0].to(dtype), persistent=False)

    def widen(self) -> None:
        """Codes once more in blocks, where this processor has such: the very same numbers, in less time."""
        self.blocks = in_whole_blocks(self.codes) if self.whole else None

    def plain(self) -> None:
        """The codes as they are alone, for a compiler, which makes blocks of its own."""
        self.blocks = None

    def product(self, x_RI: Tensor, tokens: int) -> Tensor:
        if lone(x_RI, self.codes):
            return (summed(x_RI, self.codes) * self.scale.float()).to(x_RI.dtype)[None]
        if tokens >= LONG:
            return F.linear(x_RI, self.codes.to(x_RI.dtype)) * self.scale
        if len(x_RI) < FEW or x_RI.dtype != torch.bfloat16 or not self.whole:
            return torch.ops.aten._weight_int8pack_mm(x_RI, self.codes, self.scale)
        whole, scale = whole_numbers(x_RI, 127 * 128)
        high = (whole * (1 / 128)).round()
        high, low = self.sums(torch.cat([high, whole - 128 * high])).chunk(2)
        return ((128 * high + low) * (scale * self.scale.float())).to(x_RI.dtype)

    def sums(self, whole_RI: Tensor) -> Tensor:
        """Whole numbers of up to 127 times the codes, in fp32. The sums are exact in whatever order, where this processor has such."""
        if not self.whole:
            return F.linear(whole_RI, self.codes.float())
        if self.constant:
            return by_whole_blocks(whole_RI, in_whole_blocks(self.codes))
        if self.blocks is not None and len(whole_RI) > 1:
            return by_whole_blocks(whole_RI, self.blocks)
        return torch._int_mm(whole_RI.to(torch.int8), self.codes.T).float()

    def dense(self) -> Tensor:
        return self.codes.to(self.dtype) * self.scale[:, None]

    @staticmethod
    def unfit(packed: Packed) -> str:
        """Why these codes cannot be multiplied so; "" where they can."""
        rows, columns = packed.shape
        if packed.bits != 8 or packed.group < columns or packed.zero_OG is not None:
            return "8-bit products take one scale for each output and no zeros"
        return "" if rows % 16 == 0 and columns % 16 == 0 else "8-bit products take multiples of 16 rows and columns"


class Int8Inputs(Int8):
    """The same with inputs rounded as well, to 8 bits with a scale for each token, as nn/inputs.py says."""

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(packed, bias, dtype)
        self.scale = packed.scale_OG[:, 0].float()

    def product(self, x_RI: Tensor, tokens: int) -> Tensor:
        whole, scale = whole_numbers(x_RI, 127)
        found = summed(whole, self.codes)[None] if lone(x_RI, self.codes) else self.sums(whole)
        return (found * (scale * self.scale)).to(x_RI.dtype)  # of two factors a compiler takes the second for that of outputs

    def dense(self) -> Tensor:
        return (self.codes.float() * self.scale[:, None]).to(self.dtype)


def in_whole_blocks(codes_OI: Tensor) -> Tensor:
    """8-bit codes as oneDNN wants them; an opaque tensor."""
    return torch.ops.onednn.qlinear_prepack(codes_OI, [HINT, codes_OI.shape[1]])


def by_whole_blocks(whole_RI: Tensor, blocks: Tensor) -> Tensor:
    """Whole numbers from -128 to 127 times blocks of codes, fp32."""
    outputs = blocks.shape[1]
    one, none = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
    how = (1.0, 0, torch.float32, "none", [], "")
    return torch.ops.onednn.qlinear_pointwise((whole_RI + 128).to(torch.uint8), 1.0, 128, blocks, one, none, None, *how)


@cache
def whole_products() -> bool:
    """Whether this processor multiplies whole numbers of 8 bits fast and exactly. Older ones overflow in sums of two products, and where
    torch takes none of their products for this it goes through a loop that is fifty times as slow."""
    if not torch.cpu._is_vnni_supported():
        return False
    most = torch.tensor([[127] * 64, [-127] * 64]).repeat(HINT, 1)
    codes, want = most.to(torch.int8), most @ most.T
    found = by_whole_blocks(most.float(), in_whole_blocks(codes)), torch._int_mm(codes, codes.T)
    return all(torch.equal(one.long(), want) for one in found)


def whole_numbers(x: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Inputs as whole numbers up to `most` and a scale for each token, both fp32."""
    wide = x.float()
    scale = (wide.abs().amax(-1, keepdim=True) / most).clamp_min(1e-30)
    return (wide / scale).round_(), scale

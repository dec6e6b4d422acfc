"""Linears of dense weights in the layouts that a decoder reads fastest.

Shapes: O outputs, I inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HINT = 16  # rows that blocks are laid out for


class Half(nn.Module):
    """A bfloat16 linear. Its weight lies in the blocks that oneDNN multiplies by (a plain one takes twice the time of one row and three
    times that of 16), or after `plain` as it is, for a compiler, which takes no blocks and makes its own."""

    def __init__(self, weight: Tensor, bias: Tensor | None, shared: bool = False) -> None:
        """`shared`: the embedding holds the weight too, so it is not let go."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.blocks: Tensor | None = blocked(weight) if halves(weight.dtype) else None
        self.kept = weight.detach() if shared or self.blocks is None else None
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The dense weight (O, I), made anew where it lies in blocks."""
        return self.blocks.to_dense() if self.kept is None else self.kept

    @property
    def nbytes(self) -> int:
        """Bytes of the weight, in blocks where it lies so."""
        return self.kept.nbytes if self.blocks is None else self.blocks.numel() * 2

    def plain(self) -> None:
        """The weight as it is, in the place of blocks."""
        if self.blocks is not None:
            self.kept, self.blocks = nn.Parameter(self.weight, requires_grad=False), None

    def forward(self, x: Tensor) -> Tensor:
        if self.blocks is not None:
            return by_blocks(x, self.blocks, self.bias)
        return by_row(x, self.kept, self.bias)


class Plain(nn.Module):
    """A linear that shares the weight of another, for graphs of a lone row."""

    def __init__(self, unit: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = unit.weight, unit.bias

    def forward(self, x: Tensor) -> Tensor:
        return by_row(x, self.weight, self.bias)


def by_row(x: Tensor, weight_OI: Tensor, bias: Tensor | None) -> Tensor:
    """x times a weight; of a lone row, compiled, by a sum that reads the weight as it lies, which no product does."""
    if not lone(x, weight_OI):
        return F.linear(x, weight_OI, bias)
    y = summed(x, weight_OI)
    y = y if bias is None else y + bias.float()
    return y.to(x.dtype).view(*x.shape[:-1], -1)


def lone(x: Tensor, weight_OI: Tensor) -> bool:
    """Whether this is one row, in a graph that is being compiled."""
    return torch.compiler.is_compiling() and x.numel() == weight_OI.shape[1]


def summed(x: Tensor, weight_OI: Tensor) -> Tensor:
    """The products of one row and a weight or its codes, added up in fp32: (O,)."""
    row = x.float().reshape(1, -1)
    row = row.as_strided(row.shape, row.stride())  # the compiler keeps what this is taken of; else it makes it anew for every output
    return (row * weight_OI.float()).sum(-1)


def halves(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies by blocks of a type."""
    return dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def blocked(weight_OI: Tensor) -> Tensor:
    """A bfloat16 weight as oneDNN wants it; an opaque tensor."""
    return torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach().contiguous(), HINT)


def by_blocks(x: Tensor, blocks: Tensor, bias: Tensor | None) -> Tensor:
    """x times a blocked weight."""
    return torch.ops.mkldnn._linear_pointwise(x, blocks, bias, "none", [], "")

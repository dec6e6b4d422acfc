"""What linears of packed codes share.

Shapes: R rows, O outputs, I inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bloomery.nn.packed import Packed
from bloomery.num.grids import Grid

FEW = 4  # rows below which sums are made in another order, or by another product: a step that hangs on nobody's company has as many


def to_nearest(weight_OI: Tensor, grid: Grid) -> Packed:
    """The codes of a weight on a grid, each number rounded to the nearest."""
    w_OI = weight_OI.detach().float()
    fitted = grid.fit(w_OI)
    return Packed(grid.round(w_OI, fitted), *fitted, grid.bits, grid.width(w_OI.shape[1]))


class Codes(nn.Module):
    """What packed linears of codes share: an order of their inputs and a bias. Each kind has `dense`, the weight with its columns in the
    order of the codes, `widen`, which keeps a second copy for steps of many rows, and `product(x_RI, tokens)`: rows, of which `tokens` are
    of one text, times the codes, (R, O).

    Which product a row of a step goes through must not hang on the other rows. So products differ by the number of rows below FEW alone,
    and beyond it by the length of a text: `tokens` of one sequence, which a step has one of, or a few where it judges guesses.
    """

    bias: Tensor | None
    order: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.dtype = dtype
        self.register_buffer("order", None if packed.order is None else packed.order.long(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The dense weight (O, I), made anew."""
        dense = self.dense()
        return dense if self.order is None else torch.empty_like(dense).index_copy_(1, self.order, dense)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, I) or rows that are nobody's text, (R, I); what comes out has O in the place of I."""
        rows = x.reshape(-1, self.in_features)
        y = self.product(rows if self.order is None else rows[:, self.order], x.shape[-2] if x.dim() > 2 else 1)
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], self.out_features)

"""Whole numbers and the scales they are multiplied by, improved in turns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from bloomery.nn.packed import Packed, Quantized, spread
from bloomery.num.grids import Grid, inverse
from bloomery.num.hessian import factor, gather, moments, output_error, sweep

HELD = 1 << 24  # numbers that are made at a time for the scales of some rows


@dataclass(frozen=True)
class DecoupleQ:
    """Round with fixed scales, then solve for the scales and shifts that are best for those codes, and so on in turns.

    P260 Guo et al. 2024, arXiv 2404.12759
    Differs: codes are chosen by GPTQ's sweep, which the authors' code offers, and not by its default of gradient steps on the columns
    still open; a turn that makes a row's outputs worse is undone for that row, as there, but there are no more tries from another
    beginning; scales and shifts are float16; the stage that trains scales and norms of a block, off there by default, is left out.
    Costs: X^T X of every layer's inputs; for each turn O x I^2 for codes, as much for scales, and O systems of twice the groups.
    """

    bits: int = 2  # of a weight, 2 to 8
    group: int = 64  # inputs that share a scale and a shift; -1 = all
    turns: int = 4  # of codes and of scales
    damp: float = 0.01  # added to the Hessian's diagonal, as a share of its mean
    precision: Literal["float32", "bfloat16"] = "float32"  # of the factors of X^T X; bfloat16 is faster where it is in hardware
    reads: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        self.grid  # noqa: B018 - its knobs are checked when it is made
        if self.turns < 1 or self.damp <= 0:
            raise ValueError(f"turns must be at least 1 and damp above 0, got {self.turns} and {self.damp}")

    @property
    def grid(self) -> Grid:
        """The grids that the first turn begins with."""
        return Grid(self.bits, self.group, symmetric=False, search=20)

    def collect(self, acc: dict[str, Any], x: Tensor, y: Tensor | None, g: Tensor | None) -> None:
        """Adds inputs `x` (rows, I) to the running mean of X^T X, in fp32."""
        gather(acc, x, self.precision)

    @torch.no_grad()
    def solve(self, unit: nn.Linear, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> Quantized:
        """The linear as codes, scales and shifts; ValueError where no input was collected or an input was not finite."""
        own: DecoupleQ = replace(self, **knobs)
        codes, scale, shift = decoupled(unit.weight.float(), moments(acc, "decoupleq"), own.grid, own.turns, own.damp)
        width = own.grid.width(codes.shape[1])
        small = Packed(codes.to(torch.int8), scale, None, own.bits, width, method="decoupleq", shift_OG=shift)
        return Quantized(small, unit.bias, unit.weight.dtype)


def decoupled(w_OI: Tensor, hessian_II: Tensor, grid: Grid, turns: int, damp: float) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (O, I), scales and shifts (O, G) float16 of the least output error found, each row for itself."""
    width, columns = grid.width(w_OI.shape[1]), w_OI.shape[1]
    order = hessian_II.diagonal().argsort(descending=True, stable=True)
    u_II = factor(hessian_II[order][:, order].to(w_OI.dtype), damp)
    scale, zero = grid.fit(w_OI)
    shift = (-zero.float() * scale.float()).half()
    best, least_O = None, None
    for turn in range(2 * turns):
        if turn % 2 == 0:
            codes = rounded(w_OI, scale, shift, grid, u_II, order)
        else:
            scale, shift = best_scales(w_OI, codes, hessian_II, width, damp)
        error_O = output_error(codes * spread(scale.float(), width, columns) + spread(shift.float(), width, columns) - w_OI, hessian_II)
        if best is None:
            best, least_O = (codes, scale, shift), error_O
            continue
        better = (error_O < least_O)[:, None]
        codes, scale, shift = best = tuple(torch.where(better, a, b) for a, b in zip((codes, scale, shift), best, strict=True))
        least_O = torch.minimum(error_O, least_O)
    return best


def rounded(w_OI: Tensor, scale_OG: Tensor, shift_OG: Tensor, grid: Grid, u_II: Tensor, order: Tensor) -> Tensor:
    """Codes of fixed scales and shifts, column by column in `order`, the columns still open making good the error."""
    width, places = grid.width(w_OI.shape[1]), order.tolist()
    scale_GO, shift_GO = (t.T.contiguous().to(w_OI.dtype) for t in (scale_OG, shift_OG))
    inverse_GO = inverse(scale_GO, w_OI.dtype)
    w_IO = w_OI.T[order].contiguous()
    codes_IO = torch.empty_like(w_IO)

    def settle(j: int, w_O: Tensor) -> Tensor:
        at = places[j] // width
        codes_IO[j] = codes = grid.codes(w_O - shift_GO[at], inverse_GO[at], None)
        return codes * scale_GO[at] + shift_GO[at]

    sweep(w_IO, u_II, settle, 128)
    return torch.empty_like(codes_IO).index_copy_(0, order, codes_IO).T.contiguous()


def best_scales(w_OI: Tensor, codes_OI: Tensor, hessian_II: Tensor, width: int, damp: float) -> tuple[Tensor, Tensor]:
    """Scales and shifts (O, G) float16 whose outputs are nearest to those of the weight, for codes as they are.

    A row is codes x scale + shift, linear in both: with A its (I, 2G) matrix, they solve A^T H A t = A^T H w. Every column of A is of one
    group, and is multiplied with that group's columns of H alone.
    """
    columns = w_OI.shape[1]
    groups = -(-columns // width)
    more = (0, groups * width - columns)  # columns of no input, which add nothing
    h_IGK = pad(hessian_II, more + more).unflatten(1, (groups, width))
    shifted_IG = h_IGK.sum(-1)  # H times a group's part of A that is all ones
    shifts_GG = shifted_IG.unflatten(0, (groups, width)).sum(1)
    found = []
    step = max(1, HELD // (len(h_IGK) * groups))
    for w_RI, codes_RI in zip(pad(w_OI, more).split(step), pad(codes_OI, more).split(step), strict=True):
        codes_RGK = codes_RI.unflatten(1, (groups, width))
        moved_GIR = h_IGK.transpose(0, 1) @ codes_RGK.permute(1, 2, 0)  # H times a group's part of A that is codes
        scales_RGG = torch.einsum("rhk,ghkr->rhg", codes_RGK, moved_GIR.unflatten(1, (groups, width)))
        mixed_RGG = torch.einsum("rhk,hkg->rhg", codes_RGK, shifted_IG.unflatten(0, (groups, width)))
        upper, lower = torch.cat([scales_RGG, mixed_RGG], 2), torch.cat([mixed_RGG.transpose(1, 2), shifts_GG.expand_as(mixed_RGG)], 2)
        left, right = torch.cat([upper, lower], 1), torch.cat([torch.einsum("ri,gir->rg", w_RI, moved_GIR), w_RI @ shifted_IG], 1)
        ridge = damp * 1e-2 * left.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-20)
        left = left + ridge[:, None, None] * torch.eye(2 * groups, dtype=left.dtype, device=left.device)
        found.append(torch.linalg.solve(left.double(), right.double()[..., None])[..., 0])
    both = torch.cat(found)
    limit = torch.finfo(torch.float16).max
    return both[:, :groups].clamp(-limit, limit).half(), both[:, groups:].clamp(-limit, limit).half()

"""Grids of small whole numbers with a scale per group of inputs: where a weight may lie after quantization.

Scales are rounded to float16 before any code is chosen, so what is stored is what was optimised. With `group` 32 and symmetric
codes, 4 bits are exactly GGUF's Q4_0 and 8 bits its Q8_0.

Shapes: O outputs, I inputs, G groups of inputs, K inputs of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from bloomery.nn.packed import groups

NARROWEST = 0.5  # share of the range that the search for a better scale goes down to
Fitted = tuple[Tensor, Tensor | None]  # scale (O, G) float16, zero (O, G) int8 or None


@dataclass(frozen=True)
class Grid:
    """Which grids of whole numbers are allowed. Symmetric ones have their zero at code 0, others store where it is.

    A symmetric group's scale is its number of largest magnitude over -2^(bits-1), sign and all, so that all codes are used: a plain
    scale of magnitude over 2^(bits-1) - 1 leaves the lowest code idle. At 8 bits, where one code in 256 does not matter, codes
    are -127 to 127.
    """

    bits: int = 4
    group: int = 32  # inputs that share a scale; -1 = all; the last group is narrower where it does not divide the inputs
    symmetric: bool = True
    search: int = 0  # narrower ranges tried for each group, for the least squared error; 0 = the range of its weights alone

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be between 2 and 8, got {self.bits}")
        if self.group != -1 and self.group < 1:
            raise ValueError(f"group must be at least 1, or -1 for a whole row, got {self.group}")
        if self.search < 0:
            raise ValueError(f"search must not be negative, got {self.search}")

    @property
    def low(self) -> int:
        """The lowest code."""
        return -127 if self.symmetric and self.bits == 8 else -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """The highest code."""
        return (1 << (self.bits - 1)) - 1

    def width(self, columns: int) -> int:
        """Columns of a group in a matrix of `columns`."""
        return columns if self.group == -1 else min(self.group, columns)

    def fit(self, w_OI: Tensor, importance_I: Tensor | None = None) -> Fitted:
        """Scale and zero of every group; the search weighs squared errors by `importance_I`. ValueError for weights without a scale."""
        width = self.width(w_OI.shape[1])
        more = (0, -w_OI.shape[1] % width)  # zeros lie on every grid and in every range, so they change no group
        w_OGK = (pad(w_OI, more) if more[1] else w_OI).unflatten(1, (-1, width))
        scale, zero = self._of_range(w_OGK, 1.0)
        if self.search:
            weigh = 1.0 if importance_I is None else pad(importance_I, more).view(-1, width)
            least = self._error(w_OGK, scale, zero, weigh)
            for step in range(1, self.search + 1):
                other_scale, other_zero = self._of_range(w_OGK, 1 - (1 - NARROWEST) * step / self.search)
                error = self._error(w_OGK, other_scale, other_zero, weigh)
                better = error < least
                least, scale = torch.where(better, error, least), torch.where(better, other_scale, scale)
                zero = None if zero is None else torch.where(better, other_zero, zero)
        if not bool(scale.isfinite().all()):
            raise ValueError(f"weights up to {float(w_OI.abs().max()):.3g} have no float16 scale at {self.bits} bits; they are damaged")
        return scale, zero

    def _of_range(self, w_OGK: Tensor, share: float) -> Fitted:
        """Scale and zero that cover `share` of each group's range."""
        if self.symmetric:
            largest = w_OGK.gather(-1, w_OGK.abs().argmax(-1, keepdim=True))[..., 0]
            scale = largest.abs() / 127 if self.bits == 8 else largest / -(1 << (self.bits - 1))
            return (scale * share).half(), None
        least, most = w_OGK.amin(-1).clamp(max=0), w_OGK.amax(-1).clamp(min=0)
        scale = ((most - least) * (share / (self.high - self.low))).half()
        zero = (self.low - least * share * inverse(scale, least.dtype)).round().clamp(self.low, self.high)
        return scale, zero.to(torch.int8)

    def _error(self, w_OGK: Tensor, scale_OG: Tensor, zero_OG: Tensor | None, weigh: Tensor | float) -> Tensor:
        """Squared error of each group."""
        scale, zero = scale_OG.to(w_OGK.dtype)[..., None], None if zero_OG is None else zero_OG[..., None]
        codes = self.codes(w_OGK, inverse(scale_OG, w_OGK.dtype)[..., None], zero)
        return ((self.value(codes, scale, zero) - w_OGK).square() * weigh).sum(-1)

    def codes(self, w: Tensor, inverse_scale: Tensor, zero: Tensor | None) -> Tensor:
        """Nearest codes of weights, in their type; the other arguments are broadcast."""
        codes = (w * inverse_scale).round_()
        return (codes if zero is None else codes.add_(zero)).clamp_(self.low, self.high)

    def value(self, codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """What codes stand for."""
        return value(codes, scale, zero)

    def round(self, w_OI: Tensor, fitted: Fitted) -> Tensor:
        """Nearest codes of a matrix, int8."""
        (scale, zero), codes_OI = fitted, torch.empty_like(w_OI, dtype=torch.int8)
        inverse_OG, width = inverse(scale, w_OI.dtype), self.width(w_OI.shape[1])
        for (part, w_OGK), (_, codes_OGK) in zip(groups(w_OI, width), groups(codes_OI, width), strict=True):
            codes_OGK.copy_(self.codes(w_OGK, inverse_OG[:, part, None], None if zero is None else zero[:, part, None]))
        return codes_OI


E2M1 = (-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # 4-bit floats; code -8 is the first
SCALES = ("free", "power", "ratio")


@dataclass(frozen=True)
class Levels(Grid):
    """Grids of other numbers than whole ones: a code says which of `levels` times the group's scale a weight is.

    Scales of P261 Wu et al. 2023, arXiv 2307.09782, where products with them are to be cheap: "power" of two, "ratio" a power of two
    below the largest scale of the row. Both are rounded up, so that no weight is cut off.
    """

    levels: tuple[float, ...] = E2M1  # as many as there are codes, ascending
    scales: str = "free"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.levels) != 1 << self.bits or not self.symmetric or sorted(self.levels) != list(self.levels):
            raise ValueError(f"{self.bits} bits take {1 << self.bits} ascending levels and no zero, got {len(self.levels)}")
        if self.scales not in SCALES:
            raise ValueError(f"scales must be one of {', '.join(SCALES)}, got {self.scales!r}")

    def _of_range(self, w_OGK: Tensor, share: float) -> Fitted:
        scale_OG = w_OGK.abs().amax(-1) * (share / max(abs(level) for level in self.levels))
        some_OG = scale_OG.clamp(min=2.0**-24)  # the least that float16 holds
        if self.scales == "power":
            scale_OG = torch.where(scale_OG > 0, some_OG.log2().ceil().exp2(), 0)
        elif self.scales == "ratio":
            largest_O1 = some_OG.amax(-1, keepdim=True).half().to(some_OG.dtype)
            scale_OG = torch.where(scale_OG > 0, largest_O1 * (some_OG / largest_O1).log2().ceil().exp2(), 0)
        return scale_OG.half(), None

    def codes(self, w: Tensor, inverse_scale: Tensor, zero: Tensor | None) -> Tensor:
        """Codes of the nearest levels, in the type of the weights; the other arguments are broadcast."""
        levels = torch.tensor(self.levels, dtype=w.dtype, device=w.device)
        return (torch.bucketize(w * inverse_scale, (levels[1:] + levels[:-1]) / 2) + self.low).to(w.dtype)

    def value(self, codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """What codes stand for."""
        return torch.tensor(self.levels, dtype=scale.dtype, device=codes.device)[codes.long() - self.low] * scale


def value(codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """What codes stand for."""
    return codes * scale if zero is None else (codes - zero) * scale


def inverse(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / scale, and 0 where the scale is 0: such a group has code zero throughout."""
    scale = scale.to(dtype)
    return torch.where(scale == 0, 0, 1 / scale)

"""Fixed grids for activations: even ones by percentiles, grids of powers with a searched base, and a search from coarse to fine.

Sources: P252 Li et al. 2023, RepQ-ViT, arXiv 2212.08254; P229 Wu et al. 2024, AdaLog, arXiv 2407.12951.

Shapes: N numbers or rows, C candidates, H heads, I inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bloomery.nn.inputs import Rounding

PERCENTILES = (0.999, 0.9999, 0.99999)  # shares of the numbers that a range may cover, of which the best is taken
MOST = 1 << 16  # numbers of a column that percentiles are taken of
DENOMINATOR = 37  # of the powers of AdaLog: codes step by q / 37 of a halving
SMALLEST = 1e-8  # a scale at least


def keep_some(kept: list[Tensor], x_NI: Tensor, rows: int) -> None:
    """Adds some of the inputs to those that are kept, of which there are never much more than twice `rows`."""
    kept.append(x_NI[:: max(1, len(x_NI) // rows)].float())
    if sum(map(len, kept)) > 2 * rows:
        kept[:] = [torch.cat(kept)[::2]]


def quantiles(x_NI: Tensor, share: float) -> Tensor:
    """Of every column, (I); of very many rows a regular part."""
    x_NI = x_NI[:: -(-len(x_NI) // MOST)] if len(x_NI) > MOST else x_NI
    place = share * (len(x_NI) - 1)  # torch.quantile takes no more than 16 million numbers
    order_NI = x_NI.float().sort(dim=0).values
    return torch.lerp(order_NI[int(place)], order_NI[min(int(place) + 1, len(x_NI) - 1)], place - int(place))


def even(x_NI: Tensor, bits: int, apart: bool) -> Rounding:
    """The even grid of least squared error among those whose range covers a percentile, for every column `apart` or for all alike.

    The lowest code stands for a whole number of steps, so that 0 is on the grid where it is in the range.
    """
    x_NI = x_NI if apart else x_NI.reshape(-1, 1)
    found = None
    for share in PERCENTILES:
        high, low = quantiles(x_NI, share), quantiles(x_NI, 1 - share)
        scale = ((high - low) / ((1 << bits) - 1)).clamp(min=SMALLEST)
        one = (scale, -(-low / scale).round() * scale)
        error = (Rounding(bits, *one)(x_NI) - x_NI).square().mean(0)
        if found is None:
            found, least = one, error
        better = error < least
        found = tuple(torch.where(better, new, old) for new, old in zip(one, found, strict=True))
        least = torch.minimum(error, least)
    return Rounding(bits, *found)


def powers(bits: int, scale: Tensor, low: Tensor, q: int, r: int, table: bool = False) -> Rounding:
    """The grid whose codes step by q / r of a halving. With `table` what is left of a level below a whole halving is a fraction of
    2^(bits + 1) - 2, as a small table of whole numbers holds it."""
    whole, parts = (1 << (bits + 1)) - 2, []
    for code in range(1 << bits):
        halvings, rest = divmod(code * q, r)
        part = 2.0 ** (-rest / r)
        parts.append(2.0**-halvings * (round(part * whole) / whole if table else part))
    return Rounding(bits, scale, low, r / q, tuple(parts))


def roots(p: Tensor, bits: int) -> Rounding:
    """Powers of the root of 2 for numbers of at least 0, the scale the best of some percentiles: RepQ-ViT's grid for attention."""
    flat = p.reshape(-1, 1)
    tried = (powers(bits, quantiles(flat, share).clamp(min=SMALLEST), torch.zeros(1), 1, 2) for share in PERCENTILES)
    return min(tried, key=lambda one: float((one(p) - p).square().mean()))


def searched_base(bits: int, scale: Tensor, low: Tensor, error: Callable[[Rounding], float], tried: range) -> Rounding:
    """AdaLog's powers with the q of least error."""
    return min((powers(bits, scale, low, q, DENOMINATOR, table=True) for q in tried), key=error)


def progressive(
    x: Tensor, bits: int, error: Callable[[Rounding], float], first: int = 8, width: int = 4, turns: int = 3
) -> tuple[Rounding, int]:
    """An even grid for all numbers by AdaLog's fast progressive search, and how many were tried.

    `first` scales between the ranges that cover the middle 80% and all numbers go with as many places of zero around the middle;
    around the `width` best of each turn the next looks at finer scales.
    """
    flat = x.reshape(-1, 1)
    narrow, whole = (float(quantiles(flat, share) - quantiles(flat, 1 - share)) for share in (0.9, 1.0))
    codes, tried = (1 << bits) - 1, {}
    middle = round(-float(flat.min()) / max(whole, SMALLEST) * codes)
    zeros = sorted({min(max(middle + i - first // 2, 0), codes) for i in range(first)})
    step = (whole - narrow) / max(1, first - 1)
    best = [(narrow + i * step, zero) for i in range(first) for zero in zeros]
    for turn in range(turns + 1):
        for span, zero in best:
            if (span, zero) not in tried:
                scale = torch.tensor([max(span / codes, SMALLEST)])
                one = Rounding(bits, scale, -zero * scale)
                tried[span, zero] = (error(one), one)
        if turn < turns:
            step = step / 2
            top = sorted(tried, key=lambda key: tried[key][0])[:width]
            best = [(max(span + side * step, SMALLEST), zero) for span, zero in top for side in (-1, 1)]
    return min(tried.values(), key=lambda one: one[0])[1], len(tried)

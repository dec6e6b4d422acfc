"""What a budget of `compress` is in bytes, and whether it can hold a model at all, which is said before anything is read.

Shapes: O outputs, I inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.sizes import parse_size


def in_bytes(budget: str, weights: int) -> float:
    """`budget` as bytes, `weights` being in the linears; BadInput for what is neither a size nor bits."""
    number, _, unit = budget.strip().partition(" ")
    if unit.strip() in ("bit", "bits"):
        try:
            bits = float(number)
        except ValueError:
            bits = 0.0
        if not 0 < bits <= 64:
            raise BadInput(f"budget: {budget!r} says no number of bits; write it like 2.5 bits, or as a size like 1.5MB")
        return bits * weights / 8
    return float(parse_size(budget, "budget"))


def able(method: Any, budget: str, shapes: Mapping[str, tuple[int, int]]) -> None:
    """BadInput where linears of these shapes, by name, do not fit into the budget at the fewest bits that the method may give them."""
    weights = sum(rows * columns for rows, columns in shapes.values())
    given = in_bytes(budget, weights) if budget else getattr(method, "average", math.inf) * weights / 8
    if (least := fewest(method, shapes.values())) > given:
        whose = f"budget {budget}" if budget else f"average {method.average:g}"
        raise BadInput(
            f"{whose} is too small: {len(shapes)} linears take {least:,} bytes ({8 * least / weights:.2f} bits a weight, scales included) "
            f"at the fewest bits that {type(method).__name__} may give them; give more, or larger groups"
        )


def fewest(method: Any, shapes: Iterable[tuple[int, int]]) -> int:
    """Bytes of linears (O, I) at the fewest bits, and no more than that; 0 for methods of which it is not known beforehand."""
    inner, total = getattr(method, "inner", None), 0
    if hasattr(method, "widths") and hasattr(inner, "group") and not getattr(inner, "keep_zeros", False):
        for rows, columns in shapes:
            groups = 1 if inner.group == -1 else -(-columns // inner.group)
            total += rows * (4 * -(-columns * min(method.widths) // 32) + 2 * groups)
    elif hasattr(method, "signs") and hasattr(method, "rank"):
        for rows, columns in shapes:
            total += 2 * min(method.rank, rows, columns) * (rows + columns) + (rows * -(-columns // 8) if method.signs else 0)
    return total

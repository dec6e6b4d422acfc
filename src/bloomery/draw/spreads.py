"""Counts per bin of a column, and the limits that a `keep` expression sets on it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

BINS = 36


def bins(kept: Any, dropped: Any, limits: Sequence[tuple[str, float]]) -> dict[str, Any] | None:
    """Equal bins (in the logarithm for long-tailed positive numbers) over the middle 99 percent; the ends hold the rest."""
    import numpy as np

    both = np.concatenate([kept, dropped])
    if not len(both):
        return None
    low, middle, high = (float(q) for q in np.quantile(both, [0.005, 0.5, 0.995]))
    log = both.min() > 0 and high / low > 30 and high / middle > 5
    near = [v for _, v in limits if (low / 4 <= v <= high * 4 if log else low - (high - low) <= v <= high + (high - low))]
    low, high = min([low, *near]), max([high, *near])
    if log:
        edges = np.geomspace(low, high, BINS + 1)
    else:
        air = (high - low) * 0.01 or abs(low) * 0.5 or 0.5
        left = 0.0 if 0 <= low < air else low - air  # a count or a share has no bar below nothing
        edges = np.linspace(left, high + air, BINS + 1)
    counts = [np.histogram(np.clip(part, edges[0], edges[-1]), edges)[0].tolist() for part in (kept, dropped)]
    return {"edges": edges.tolist(), "kept": counts[0], "dropped": counts[1], "log": bool(log)}


_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SIGNS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def limits_of(keep: str) -> dict[str, list[tuple[str, float]]]:
    """Column -> limits [(sign, value)] of the comparisons with a number that all must hold in a `keep` expression.

    What stands under `or`, `not` or arithmetic is no simple limit and is left out.
    """
    try:
        tree = ast.parse("(" + keep.replace("\n", " ") + "\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[str, list[tuple[str, float]]] = {}
    waiting: list[ast.expr] = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            waiting += node.values
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
                sign = _SIGNS.get(type(operator))
                if sign and (column := _column(left)) and (value := _number(right)) is not None:
                    found.setdefault(column, []).append((sign, value))
                elif sign and (column := _column(right)) and (value := _number(left)) is not None:
                    found.setdefault(column, []).append((_FLIPPED[sign], value))
    return found


def _column(node: ast.expr) -> str:
    """The dotted name of a column, as parquet files have it (`document.bytes` is bytes); empty for anything else."""
    if isinstance(node, ast.Attribute):
        before = _column(node.value)
        return f"{before}.{node.attr}".removeprefix("document.") if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def _number(node: ast.expr) -> float | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

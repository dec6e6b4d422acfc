"""Sizes as people write them: `10MB`, `1.5 GiB`, `4096`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bloomery.core.errors import BadInput, near

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


def parse_size(text: str | int | float, what: str) -> int:
    """Bytes meant by `text`. Raises BadInput naming `what` for anything that is not a positive size."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([a-z]*)\s*", str(text).lower())
    if not found or found[2] not in UNITS or isinstance(text, bool):
        raise BadInput(f"{what}: {text!r} is not a size; write it like 10MB, 1.5GB or 4096")
    size = float(found[1]) * UNITS[found[2]]
    if not 1 <= size < 1e18:
        raise BadInput(f"{what}: {text!r} must be at least 1 byte and below an exabyte")
    return int(size)


def parse_budget(text: str, columns: Sequence[str] | None, what: str) -> tuple[float, str]:
    """An amount and the column that it counts: `10MB` (bytes), `10M tokens` (tokens.count), `2M length.words`. BadInput for
    others, and for columns that are not among the known ones, where these are given."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([kmgt]?)\s+([a-z_]\w*(?:\.\w+)?)\s*", str(text).lower())
    if not found or found[3] in UNITS:
        return parse_size(text, what), "bytes"
    column = "tokens.count" if found[3] == "tokens" else found[3]
    if columns is not None and column not in columns:
        mend = "add the signal `tokens`, which counts them" if column == "tokens.count" else near(column, list(columns))
        raise BadInput(f"{what}: {text!r} counts {column}, which no signal measures; {mend}")
    amount = float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}[found[2]]
    if not 1 <= amount < 1e18:
        raise BadInput(f"{what}: {text!r} must be at least 1 and below 1e18")
    return amount, column

"""Values as Python literals: what a program tells of its outcome, read without running anything, and compared by kind and value."""

from __future__ import annotations

import ast
import math
import re
from typing import Any

BASES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
KIND = re.compile(r"((?:List\[)*)(bool|int|float|str)(\]*)")


def literal(text: str | None) -> tuple[bool, Any]:
    """Whether the text is a literal, and its value."""
    try:
        return (True, ast.literal_eval(text)) if text is not None else (False, None)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False, None


def alike(said: Any, wanted: Any) -> bool:
    """Whether two literals are the same, kinds included, so that 1 is neither True nor 1.0; floats to nine digits."""
    if type(said) is not type(wanted):
        return False
    if isinstance(wanted, float):
        return math.isclose(said, wanted, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(wanted, list | tuple):
        return len(said) == len(wanted) and all(map(alike, said, wanted))
    if isinstance(wanted, dict):
        return len(said) == len(wanted) and all(key in said and alike(said[key], value) for key, value in wanted.items())
    return bool(said == wanted)


def is_kind(kind: str) -> bool:
    """Whether a kind can be read: bool, int, float, str, or lists of them, as `List[List[int]]`."""
    found = KIND.fullmatch(kind)
    return found is not None and found[1].count("[") == len(found[3])


def of_kind(value: Any, kind: str) -> bool:
    """Whether a value is of a kind exactly: an int is no float, and True no int."""
    if kind.startswith("List["):
        return type(value) is list and all(of_kind(one, kind[5:-1]) for one in value)
    return type(value) is BASES[kind]

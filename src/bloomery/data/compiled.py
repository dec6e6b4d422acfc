"""`compiled`: numba's `njit` with its on-disk cache where a place can be written, without it where none can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call; the machine code is kept beside the source, or in the user's cache folder."""
    from numba import njit

    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available": read-only installation, no home
        return njit(nogil=True)(function)

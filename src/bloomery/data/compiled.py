"""`compiled`: numba's `njit` with its on-disk cache where a place can be written, without it where none can; `inlined` into its callers."""

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


def inlined(function: Callable[..., Any]) -> Any:
    """For the few lines of a hot loop that callers take in whole: a call of numba's costs tens of nanoseconds per array handed over."""
    from numba import njit

    return njit(inline="always", nogil=True)(function)

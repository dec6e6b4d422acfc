"""Texts as arrays of code points, with exact Unicode classes: what the character-level signals run on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

ALPHA, DIGIT, SPACE = 1, 2, 4  # bits of a class


@lru_cache(maxsize=1)
def classes() -> np.ndarray:
    """uint8 class of every code point: ALPHA as str.isalpha, DIGIT as str.isdigit, SPACE as str.isspace."""
    table = np.zeros(0x110000, np.uint8)
    for code in range(0x110000):
        c = chr(code)
        if c.isalpha():
            table[code] = ALPHA
        elif c.isdigit():
            table[code] = DIGIT
        elif c.isspace():
            table[code] = SPACE
    return table


@lru_cache(maxsize=1)
def ascii_classes() -> np.ndarray:
    """The first 128 classes: all that plain ASCII text needs, without building the large table."""
    return np.array([ALPHA * c.isalpha() | DIGIT * c.isdigit() | SPACE * c.isspace() for c in map(chr, range(128))], np.uint8)


def pack(texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Join texts into at most two groups: ASCII texts as uint8, all others as uint32 code points.

    Each group is (indices into `texts`, codes, offsets of one more entry than texts, class table).
    """
    groups = []
    plain = [i for i, text in enumerate(texts) if text.isascii()]
    wide = [i for i, text in enumerate(texts) if not text.isascii()]
    for chosen, encoding, kind, table in ((plain, "ascii", np.uint8, ascii_classes), (wide, "utf-32-le", np.dtype("<u4"), classes)):
        if chosen:
            codes = np.frombuffer("".join([texts[i] for i in chosen]).encode(encoding, "surrogatepass"), kind)
            offsets = np.concatenate([[0], np.cumsum([len(texts[i]) for i in chosen])]).astype(np.int64)
            groups.append((np.array(chosen), codes, offsets, table()))
    return groups

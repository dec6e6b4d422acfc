"""Words as numbers: one compiled pass over UTF-8 that everything comparing texts by runs of words shares.

Two tables say what a word is. FOLDED, for texts that count as alike: a run of letters, digits, marks and _ of any script, in lower
case as Python's str.lower has it, save that ς counts as σ; where a script is written without spaces (Han, kana, Thai and others)
each character is a word by itself; everything else only separates. WRITTEN, for texts that must agree as they stand: the same runs
in their own case, and each other character that is not white space is a word by itself.
A word becomes a 64-bit hash: two different words share one with odds of 2^-64.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.data.compiled import compiled

ALONE = 1 << 31  # flag of a table entry: the character is a word by itself
DOTTED = 1 << 30  # flag of the one character whose lower case is two: İ becomes i and a dot above
HIGHEST = 0x20000  # code points from here on (rarer Han, mostly) are words by themselves
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x19E0, 0x1AAF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029),
    (0x3031, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF),
    (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x16FE0, 0x18D8F), (0x1AFF0, 0x1B2FF),
)  # fmt: skip
_BASIS, _PRIME, _MIX = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3), np.uint64(0xD6E8FEB86659FD93)
_S32 = np.uint64(32)


@lru_cache(maxsize=1)
def folded() -> np.ndarray:
    """The table FOLDED: uint32 (0x20000,), 0 for what separates words, else the code point that counts, and its flags."""
    table = np.zeros(HIGHEST, np.uint32)
    for code in range(HIGHEST):
        char = chr(code)
        if char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M":
            low = char.lower()
            table[code] = ord("σ") if char == "ς" else ord(low) if len(low) == 1 else ord("i") | DOTTED
    for first, last in UNSPACED:
        part = table[first : last + 1]
        part[part > 0] |= np.uint32(ALONE)
    return table


@lru_cache(maxsize=1)
def written() -> np.ndarray:
    """The table WRITTEN, laid out as `folded`."""
    table, codes = folded().copy(), np.arange(HIGHEST, dtype=np.uint32)
    inside = table > 0
    table[inside] = codes[inside] | (table[inside] & np.uint32(ALONE))
    table[~inside] = codes[~inside] | np.uint32(ALONE)
    table[[code for code in range(HIGHEST) if chr(code).isspace()]] = 0
    return table


@compiled
def words_of(codes, lo, hi, table, hashes, begins, ends):  # type: ignore[no-untyped-def]
    """Hashes of the words of codes[lo:hi], and where they begin and end if there is room in `begins`; returns how many."""
    n, h, inside, start, placed = 0, _BASIS, False, lo, begins.shape[0] > 0
    i = lo
    while i < hi:
        at, c = i, np.uint32(codes[i])
        i += 1
        if c >= 0xC0 and i < hi:
            if c < 0xE0 or i + 1 >= hi:
                c = ((c & 0x1F) << 6) | (codes[i] & 0x3F)
                i += 1
            elif c < 0xF0 or i + 2 >= hi:
                c = ((c & 0x0F) << 12) | ((codes[i] & 0x3F) << 6) | (codes[i + 1] & 0x3F)
                i += 2
            else:
                c = ((c & 0x07) << 18) | ((codes[i] & 0x3F) << 12) | ((codes[i + 1] & 0x3F) << 6) | (codes[i + 2] & 0x3F)
                i += 3
        t = np.uint32(table[c]) if c < HIGHEST else np.uint32(c | ALONE)
        if t - np.uint32(1) < np.uint32(DOTTED - 1):
            if not inside:
                inside, start = True, at
            h = (h ^ np.uint64(t)) * _PRIME
            continue
        if t & np.uint32(DOTTED) and not t & np.uint32(ALONE):
            if not inside:
                inside, start = True, at
            h = (((h ^ np.uint64(0x69)) * _PRIME) ^ np.uint64(0x307)) * _PRIME
            continue
        if inside:
            x = (h ^ (h >> _S32)) * _MIX
            hashes[n] = x ^ (x >> _S32)
            if placed:
                begins[n], ends[n] = start, at
            n, h, inside = n + 1, _BASIS, False
        if t:
            x = (_BASIS ^ np.uint64(t & np.uint32(0x1FFFFF))) * _PRIME
            x = (x ^ (x >> _S32)) * _MIX
            hashes[n] = x ^ (x >> _S32)
            if placed:
                begins[n], ends[n] = at, i
            n += 1
    if inside:
        x = (h ^ (h >> _S32)) * _MIX
        hashes[n] = x ^ (x >> _S32)
        if placed:
            begins[n], ends[n] = start, hi
        n += 1
    return n


@compiled
def _all_words(codes, offsets, table, hashes, begins, ends, counts):  # type: ignore[no-untyped-def]
    n = 0
    for d in range(counts.shape[0]):
        here = words_of(codes, offsets[d], offsets[d + 1], table, hashes[n:], begins[n:], ends[n:])
        counts[d] = here
        n += here
    return n


@compiled
def runs_of(hashes, n, length, out):  # type: ignore[no-untyped-def]
    """A hash of every run of `length` of the first n word hashes, by one rolling sum; `out` may be `hashes` itself. Returns how many.

    Runs of different lengths have nothing to do with each other.
    """
    if n < length or length < 1:
        return 0
    base, first, total = np.uint64(0x9E3779B97F4A7C15) + np.uint64(2 * length), np.uint64(1), np.uint64(0)
    for i in range(length - 1):
        first *= base
        total = total * base + hashes[i]
    for i in range(n - length + 1):
        total = total * base + hashes[i + length - 1]
        gone = hashes[i]
        x = (total ^ (total >> _S32)) * _MIX
        out[i] = x ^ (x >> _S32)
        total -= gone * first
    return n - length + 1


def packed(texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes of all texts in a row, uint8, and where each begins, int64 (texts + 1,). An Arrow column of strings is not copied."""
    if hasattr(texts, "combine_chunks"):
        texts = texts.combine_chunks()
    if hasattr(texts, "buffers"):
        width = np.int64 if str(texts.type) == "large_string" else np.int32
        _, where, data = texts.buffers()
        offsets = np.frombuffer(where, width)[texts.offset : texts.offset + len(texts) + 1] if len(texts) else np.zeros(1, width)
        return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), offsets.astype(np.int64)
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.frombuffer(b"".join(parts), np.uint8), offsets


def words(texts: Sequence[str] | Any, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the words of all texts in a row, uint64, and how many each text has, int64 (texts,)."""
    codes, offsets = packed(texts)
    counts, nowhere = np.zeros(len(offsets) - 1, np.int64), np.zeros(0, np.int64)
    hashes = np.empty(int(offsets[-1] - offsets[0]) + 1, np.uint64)
    return hashes[: _all_words(codes, offsets, table, hashes, nowhere, nowhere, counts)], counts


def placed_words(texts: Sequence[str] | Any, table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As `words`, and between them where each word begins and ends: bytes of its own text, int64."""
    codes, offsets = packed(texts)
    counts, room = np.zeros(len(offsets) - 1, np.int64), int(offsets[-1] - offsets[0]) + 1
    hashes, begins, ends = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    n = _all_words(codes, offsets, table, hashes, begins, ends, counts)
    base = np.repeat(offsets[:-1], counts)
    return hashes[:n], begins[:n] - base, ends[:n] - base, counts

"""Cutting text before the merges, as the patterns of `tokenizers` do it, on UTF-8 bytes and without their engine.

Which characters are letters, numbers or spaces is asked of the engine itself, 1024 code points at a time and when text first holds one
of them: the answer is the same in whatever version of Unicode the engine was built with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bloomery.data.compiled import compiled
from bloomery.data.word_hashes import packed

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MARKS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3, QWEN2 = MARKS + r"\p{N}{1,3}" + REST, MARKS + r"\p{N}" + REST
DIGITS = {GPT2: 0, LLAMA3: 3, QWEN2: 1}  # patterns that are known here -> numbers that stand together, 0: all

OTHER, LETTER, NUMBER, SPACE, NEWLINE, UNKNOWN = 0, 1, 2, 3, 4, 5  # kinds of characters; from SPACE on white space
BLOCK = 1024  # code points that are asked for at once
BEYOND = 0x110000


@lru_cache(maxsize=1)
def kinds() -> np.ndarray:
    """The kind of each code point, UNKNOWN until `learn_kinds` has asked for it; one table for the process."""
    table = np.full(BEYOND, UNKNOWN, np.uint8)
    _ask(table, 0)
    return table


def learn_kinds(texts: Iterable[str]) -> None:
    """Ask for all code points that texts hold. Several threads may do so at a time: what they write is the same."""
    table = kinds()
    for text in texts:
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        for block in np.unique(codes[table[codes] == UNKNOWN] // BLOCK).tolist():
            _ask(table, block)


def _ask(table: np.ndarray, block: int) -> None:
    """The kinds of one block, by what the engine's own classes cut out of it."""
    from tokenizers import Regex, pre_tokenizers

    codes = np.array([i for i in range(block * BLOCK, (block + 1) * BLOCK) if not 0xD800 <= i < 0xE000], np.int64)
    text, found = "".join(map(chr, codes)), np.full(len(codes), OTHER, np.uint8)
    for kind, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (SPACE, r"\s+"), (NEWLINE, r"[\r\n]+")):
        cut = np.ones(len(codes), bool)
        for _, (start, stop) in pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text):
            cut[start:stop] = False
        found[cut] = kind
    table[codes] = found


@compiled
def kind_at(codes: Any, i: int, table: Any) -> tuple[int, int]:
    """The kind of the character that begins at byte `i` of valid UTF-8, and its bytes."""
    c = np.int64(codes[i])
    if c < 0x80:
        return np.int64(table[c]), 1
    if c < 0xE0:
        return np.int64(table[(c & 0x1F) << 6 | codes[i + 1] & 0x3F]), 2
    if c < 0xF0:
        return np.int64(table[(c & 0x0F) << 12 | (codes[i + 1] & 0x3F) << 6 | codes[i + 2] & 0x3F]), 3
    code = (c & 0x07) << 18 | (codes[i + 1] & 0x3F) << 12 | (codes[i + 2] & 0x3F) << 6 | codes[i + 3] & 0x3F
    return np.int64(table[code]), 4


@compiled
def run_of(codes: Any, i: int, end: int, kind: int, table: Any, most: int) -> int:
    """Where a run of characters of a kind that begins at `i` ends, after `most` of them at the latest; -1: a kind is unknown."""
    while i < end and most > 0:
        found, width = kind_at(codes, i, table)
        if found == UNKNOWN:
            return -1
        if found != kind:
            break
        i += width
        most -= 1
    return i


@compiled
def contraction(codes: Any, i: int, end: int, either: bool) -> int:
    """Bytes of an English contraction (s, t, m, d, re, ve, ll) after the apostrophe at `i`, the apostrophe counted; 0 where none is.

    `either` takes capitals too, and then the long s, whose capital is S.
    """
    if i + 1 >= end:
        return 0
    fold = np.int64(0x20) if either else np.int64(0)
    x = np.int64(codes[i + 1]) | fold
    if x == 115 or x == 116 or x == 109 or x == 100:
        return 2
    if i + 2 >= end:
        return 0
    if either and codes[i + 1] == 0xC5 and codes[i + 2] == 0xBF:
        return 3
    y = np.int64(codes[i + 2]) | fold
    if (x == 114 and y == 101) or (x == 118 and y == 101) or (x == 108 and y == 108):
        return 3
    return 0


@compiled
def blank_end(codes: Any, i: int, end: int, table: Any, lines: bool) -> int:
    """Where the piece of white space that begins at `i` ends: the last space is left to what follows. `lines`: up to the last newline."""
    j, last, newline = i, i, np.int64(-1)
    while j < end:
        kind, width = kind_at(codes, j, table)
        if kind == UNKNOWN:
            return -1
        if kind < SPACE:
            break
        last = j
        j += width
        if kind == NEWLINE:
            newline = j
    if lines and newline > i:
        return newline
    return j if j == end or last == i else last


@compiled
def gpt2_end(codes: Any, i: int, end: int, table: Any) -> int:
    """Where the piece of GPT2 that begins at `i` ends; -1: a kind is unknown."""
    if codes[i] == 39:
        taken = contraction(codes, i, end, False)
        if taken:
            return i + taken
    j = i + 1 if codes[i] == 32 and i + 1 < end else i
    kind, _ = kind_at(codes, j, table)
    if kind >= SPACE:
        return -1 if kind == UNKNOWN else blank_end(codes, i, end, table, False)
    return run_of(codes, j, end, kind, table, end)


@compiled
def marks_end(codes: Any, i: int, end: int, table: Any, digits: int) -> int:
    """Where the piece of LLAMA3 (`digits` 3) or QWEN2 (1) that begins at `i` ends; -1: a kind is unknown."""
    if codes[i] == 39:
        taken = contraction(codes, i, end, True)
        if taken:
            return i + taken
    kind, width = kind_at(codes, i, table)
    if kind == UNKNOWN:
        return -1
    if kind == LETTER:
        return run_of(codes, i, end, LETTER, table, end)
    if kind == NUMBER:
        return run_of(codes, i, end, NUMBER, table, digits)
    after = i + width
    follows = np.int64(SPACE)
    if after < end:
        follows, _ = kind_at(codes, after, table)
        if follows == UNKNOWN:
            return -1
    if kind != NEWLINE and follows == LETTER:
        return run_of(codes, after, end, LETTER, table, end)
    if kind == OTHER or (codes[i] == 32 and follows == OTHER):
        j = run_of(codes, after if kind != OTHER else i, end, OTHER, table, end)
        return j if j < 0 else run_of(codes, j, end, NEWLINE, table, end)
    return blank_end(codes, i, end, table, True)


@compiled
def _pieces(codes: Any, offsets: Any, table: Any, counts: Any) -> bool:
    """How many pieces GPT2 cuts each text into; False where the kind of a character is unknown."""
    for d in range(len(counts)):
        i, end, n = offsets[d], offsets[d + 1], 0
        while i < end:
            i = gpt2_end(codes, i, end, table)
            if i < 0:
                return False
            n += 1
        counts[d] = n
    return True


def pieces(texts: Sequence[str]) -> np.ndarray:
    """How many pieces GPT2 cuts each text into: int64 (texts,)."""
    codes, offsets = packed(texts)
    counts = np.zeros(len(texts), np.int64)
    while not _pieces(codes, offsets, kinds(), counts):
        learn_kinds(texts)
    return counts

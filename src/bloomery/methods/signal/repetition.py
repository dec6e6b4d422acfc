"""Signal `repetition`: how much of a document says the same thing again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.data.codes import SPACE, pack
from bloomery.data.compiled import compiled
from bloomery.seams import Doc, Tools

NAMES = ("duplicate_lines", "duplicate_line_characters", "top_2gram", "top_3gram", "top_4gram",
         *(f"duplicate_{n}gram" for n in range(5, 11)))  # fmt: skip


@compiled
def _find(x, key, stamp, now, mask):  # type: ignore[no-untyped-def]
    """Slot of a hash in an open table whose entries count only when stamped with `now`; free slots are not yet marked."""
    p = ((x * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(20)) & mask
    while stamp[p] == now and key[p] != x:
        p = (p + np.uint64(1)) & mask
    return p


@compiled
def _lines(codes, space, key, stamp, now, mask, out):  # type: ignore[no-untyped-def]
    """Duplicate lines (white space at both ends aside, empty lines aside): shares of lines and of their characters."""
    lines = repeated = characters = repeated_characters = 0
    h = kept = np.uint64(0xCBF29CE484222325)
    length = kept_length = 0
    for i in range(codes.shape[0] + 1):
        c = codes[i] if i < codes.shape[0] else np.uint32(10)
        if c == 10:
            if kept_length > 0:
                x = kept ^ (kept >> np.uint64(29))
                p = _find(x, key, stamp, now, mask)
                if stamp[p] == now:
                    repeated += 1
                    repeated_characters += kept_length
                stamp[p], key[p] = now, x
                lines += 1
                characters += kept_length
            h = kept = np.uint64(0xCBF29CE484222325)
            length = kept_length = 0
        elif length > 0 or not space[c]:
            h = (h ^ np.uint64(c)) * np.uint64(0x100000001B3)
            length += 1
            if not space[c]:
                kept, kept_length = h, length
    out[0] = repeated / max(1, lines)
    out[1] = repeated_characters / max(1, characters)


@compiled
def _words(codes, space, hashes, lengths):  # type: ignore[no-untyped-def]
    """Hash and length of every run of characters that are not white space; returns their number."""
    n = length = 0
    h = np.uint64(0xCBF29CE484222325)
    for i in range(codes.shape[0] + 1):
        if i < codes.shape[0] and not space[codes[i]]:
            h = (h ^ np.uint64(codes[i])) * np.uint64(0x100000001B3)
            length += 1
        elif length > 0:
            x = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            hashes[n], lengths[n] = x ^ (x >> np.uint64(32)), length
            n += 1
            h, length = np.uint64(0xCBF29CE484222325), 0
    return n


@compiled
def _grams(hashes, lengths, n, key, count, stamp, now, mask, out):  # type: ignore[no-untyped-def]
    """Top 2- to 4-grams and duplicate 5- to 10-grams, as shares of the characters of words; returns the last stamp used."""
    total = 0
    for i in range(n):
        total += lengths[i]
    for g in range(2, 11):
        now += 1
        best = best_length = covered = free = inside = 0
        for i in range(min(g - 1, n)):
            inside += lengths[i]
        for i in range(n - g + 1):
            inside += lengths[i + g - 1]
            x = hashes[i]
            for k in range(1, g):
                x = x * np.uint64(0x9E3779B97F4A7C15) + hashes[i + k]
            x ^= x >> np.uint64(31)
            p = _find(x, key, stamp, now, mask)
            if stamp[p] == now:
                count[p] += 1
                if g > 4:
                    for k in range(max(i, free), i + g):
                        covered += lengths[k]
                    free = i + g
            else:
                stamp[p], key[p], count[p] = now, x, 1
            if g <= 4 and (count[p] > best or (count[p] == best and inside > best_length)):
                best, best_length = count[p], inside
            inside -= lengths[i]
        share = (best * best_length if best > 1 else 0) if g <= 4 else covered
        out[g] = min(1.0, share / max(1, total))
    return now


@compiled
def _measure(codes, offsets, space, out):  # type: ignore[no-untyped-def]
    longest = 0
    for d in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    slots = 64
    while slots < longest + 1:
        slots *= 2
    key, stamp, count = np.empty(slots, np.uint64), np.zeros(slots, np.int64), np.empty(slots, np.int64)
    hashes, lengths = np.empty(longest // 2 + 1, np.uint64), np.empty(longest // 2 + 1, np.int64)
    now = 0
    for d in range(offsets.shape[0] - 1):
        text = codes[offsets[d] : offsets[d + 1]]
        n = _words(text, space, hashes, lengths)
        slots = 64  # the smallest table that is at most half full: every line that is not empty has a word
        while slots < 2 * n:
            slots *= 2
        mask = np.uint64(slots - 1)
        now += 1
        _lines(text, space, key, stamp, now, mask, out[d])
        now = _grams(hashes, lengths, n, key, count, stamp, now, mask, out[d])


@dataclass(frozen=True)
class Repetition:
    """Shares of duplicate lines and their characters, of the top 2- to 4-gram and of duplicate 5- to 10-grams.

    Source: Rae et al. 2021, arXiv 2112.11446, table A1 (the repetition rules of Gopher).
    Differs: a share of the characters of words, white space aside, never above 1; what repeats counts, its first occurrence
    does not; overlapping repeats count once; of equally frequent n-grams the longest is the top one, and it must occur twice.
    Costs: ten passes over the words with a hash table; exact for all of Unicode, words and lines compared by 64-bit hashes.
    """

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """duplicate_lines, duplicate_line_characters, top_2gram .. top_4gram, duplicate_5gram .. duplicate_10gram."""
        found = np.zeros((len(docs), len(NAMES)))
        for rows, codes, offsets, table in pack([doc.text for doc in docs]):
            out = np.zeros((len(rows), len(NAMES)))
            _measure(codes, offsets, (table & SPACE) != 0, out)
            found[rows] = out
        return {name: found[:, k] for k, name in enumerate(NAMES)}

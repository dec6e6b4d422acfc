"""Counts behind Data-Juicer's filters, compiled: characters, words, and what of both comes twice."""

from __future__ import annotations

import numpy as np

from bloomery.data.codes import ALPHA, DIGIT
from bloomery.data.compiled import compiled, inlined
from bloomery.data.special_characters import LINE_END, NUMERIC, SPECIAL

COUNT = np.uint64(0xFFFFFF)  # bits of an entry that count; the others hold the hash


@inlined
def _counted(table, mask, x):  # type: ignore[no-untyped-def]
    """Count a hash in an open table of zeros, and return how often it came, this time included (up to 2^24)."""
    p = np.int64(x & np.uint64(mask))
    tag = x & ~COUNT
    while table[p] != 0 and table[p] & ~COUNT != tag:
        p = (p + 1) & mask
    table[p] = (table[p] | tag) + np.uint64(1)
    return table[p] & COUNT


@inlined
def _cleared(table, entries):  # type: ignore[no-untyped-def]
    """Make room for so many entries at the front of the table; returns its mask."""
    slots = 64
    while slots < entries + entries // 4:
        slots *= 2
    table[:slots] = 0
    return slots - 1


@compiled
def characters(codes, kind, out):  # type: ignore[no-untyped-def]
    lines = alphanumeric = special = longest = begin = 0
    for i in range(len(codes)):
        k = kind[codes[i]]
        alphanumeric += k & (ALPHA | DIGIT | NUMERIC) != 0
        special += k & SPECIAL != 0
        if k & LINE_END and not (codes[i] == 10 and i > 0 and codes[i - 1] == 13):
            longest, lines = max(longest, i - begin), lines + 1
        begin = i + 1 if k & LINE_END else begin
    if begin < len(codes):
        longest, lines = max(longest, len(codes) - begin), lines + 1
    size = max(1, len(codes))
    out[0], out[1], out[2], out[3], out[4] = len(codes), alphanumeric / size, special / size, size / max(1, lines), longest
    if len(codes) == 0:
        out[3] = 0


@compiled
def words(codes, kind, gram, hashes, table):  # type: ignore[no-untyped-def]
    """Words between spaces, tabs and line feeds, without special characters at both ends; the share of word n-grams that come twice."""
    n, i = 0, 0
    while i < len(codes):
        a = i
        while i < len(codes) and codes[i] != 32 and codes[i] != 10 and codes[i] != 9:
            i += 1
        b = i
        while a < b and kind[codes[a]] & SPECIAL:
            a += 1
        while b > a and kind[codes[b - 1]] & SPECIAL:
            b -= 1
        if a < b:
            h = np.uint64(0xCBF29CE484222325)
            for k in range(a, b):
                c = codes[k]
                h = (h ^ np.uint64(c + 32 if 65 <= c <= 90 else c)) * np.uint64(0x100000001B3)
            hashes[n] = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            n += 1
        i += 1
    twice, x, power = 0, np.uint64(0), np.uint64(1)
    mask = _cleared(table, n)
    for _ in range(gram):
        power *= np.uint64(0x9E3779B97F4A7C15)
    for k in range(n):
        x = x * np.uint64(0x9E3779B97F4A7C15) + hashes[k]
        if k >= gram:
            x -= power * hashes[k - gram]
        if k >= gram - 1:
            count = _counted(table, mask, (x ^ (x >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9))
            twice += 2 if count == 2 else count > 2
    return n, twice / max(1, n - gram + 1)


@compiled
def repetition(codes, gram, table, counts):  # type: ignore[no-untyped-def]
    """Share of character n-grams that are among the most frequent ones, as many as the root of how many differ."""
    total = len(codes) - gram + 1
    if total < 1:
        return 0.0
    power = np.uint64(1)
    for _ in range(gram):
        power *= np.uint64(0x100000001B3)
    different, h = 0, np.uint64(0)
    mask = _cleared(table, total)
    for i in range(len(codes)):
        h = h * np.uint64(0x100000001B3) + np.uint64(codes[i] + 1)
        if i >= gram:
            h -= power * np.uint64(codes[i - gram] + 1)
        if i >= gram - 1:
            different += _counted(table, mask, (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)) == 1
    n = 0
    for p in range(mask + 1):
        if table[p] & COUNT > 1:
            counts[n] = table[p] & COUNT
            n += 1
    ordered = np.sort(counts[:n])
    return ordered[n - min(n, int(np.sqrt(different))) :].sum() / total

"""What comes twice in a text, counted as Gopher's rules count it, compiled. Legend: key, stamp, count: an open hash table of mask + 1
places, whose entries count only when stamped with `now`, so that it is never cleared."""

from __future__ import annotations

import numpy as np

from bloomery.data.compiled import compiled, inlined
from bloomery.data.words import END


@inlined
def slot(x, key, stamp, now, mask):  # type: ignore[no-untyped-def]
    """Place of a hash in an open table whose entries count only when stamped with `now`."""
    p = np.int64((x ^ (x >> np.uint64(31))) & np.uint64(mask))
    while stamp[p] == now and key[p] != x:
        p = (p + 1) & mask
    return p


@compiled
def parts(codes, a, b, least, key, stamp, now, mask, size, out):  # type: ignore[no-untyped-def]
    """Parts between runs of `least` line feeds or more: shares of those that came before, and of their characters in `size`."""
    count = repeated = characters = 0
    i = a
    while i <= b:
        begin, h, feeds = i, np.uint64(0xCBF29CE484222325), 0
        while i < b:
            if codes[i] == 10:
                stop = i
                while stop < b and codes[stop] == 10:
                    stop += 1
                feeds = stop - i
                if feeds >= least:
                    break
            h = (h ^ np.uint64(codes[i])) * np.uint64(0x100000001B3)
            i += 1
        p = slot(h, key, stamp, now, mask)
        if stamp[p] == now:
            repeated += 1
            characters += i - begin
        stamp[p], key[p] = now, h
        count += 1
        if i >= b:
            break
        i += feeds
    out[0], out[1] = repeated / max(1, count), characters / max(1, size)


@compiled
def grams(spans, hashes, key, count, stamp, now, mask, work, size, out):  # type: ignore[no-untyped-def]
    """Top 2- to 4-grams and repeated 5- to 10-grams. An n-gram that came twice begins with an (n - 1)-gram that did, so each round looks
    only at what the one before has left; returns the last stamp used."""
    n = len(spans)
    left, gram, length = n, work[0], work[1]
    for i in range(n):
        work[2][i] = i
        gram[i] = np.int64(hashes[i])
        length[i] = (spans[i] & END) - (spans[i] >> 32)
    for g in range(2, 11):
        now += 1
        best = best_place = m = 0
        for k in range(left):
            i = work[2][k]
            if i + g > n:
                break
            x = np.uint64(gram[i]) * np.uint64(0x9E3779B97F4A7C15) + hashes[i + g - 1]
            gram[i] = np.int64(x)
            length[i] += (spans[i + g - 1] & END) - (spans[i + g - 1] >> 32)
            p = slot(x, key, stamp, now, mask)
            if stamp[p] != now:
                stamp[p], key[p], count[p] = now, x, 0
            count[p] += 1
            work[3][k] = p
            m = k + 1
        for k in range(m):  # the first of the most frequent ones, as its count is reached
            if count[work[3][k]] > best:
                best, best_place = count[work[3][k]], work[2][k]
        if g <= 4 and n >= g:
            out[g - 2] = best * (length[best_place] + g - 1) / max(1, size) if best > 1 else _first(spans, g) / max(1, size)
        kept = free = covered = 0
        for k in range(m):
            p, i = work[3][k], work[2][k]
            if count[p] == 1:
                continue
            if g > 4 and i >= free:
                if key[p] == 0:  # seen: its hash is not needed any more
                    covered += length[i]
                    free = i + g
                key[p] = 0
            work[2][kept] = i
            kept += 1
        if g > 4:
            out[g - 2] = covered / max(1, size)
        left = kept
    return now


@inlined
def _first(spans, g):  # type: ignore[no-untyped-def]
    """Characters of the first g words with a space between them."""
    total = g - 1
    for k in range(g):
        total += (spans[k] & END) - (spans[k] >> 32)
    return total

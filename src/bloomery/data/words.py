"""Splitting English text into words, compiled: the rules of spaCy's tokenizer over arrays of code points, token for token.

Each chunk between white space is split by `affixes.py`; then neighbouring pieces that together are a word with a rule of its own (a
smiley in brackets) are put together again, the longest first. No step looks at a character more than a bounded number of times, so
hostile text costs no more than any other. Words are compared by 64-bit hashes. Legend: n tokens of a text.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bloomery.data.affixes import LONGEST, PRIME, SPACE, chunk, hash_of, own, pieces, slot
from bloomery.data.compiled import compiled
from bloomery.data.english import PLAIN, kinds, own_words, units


@compiled
def _matches(n, hashes, gaps, rules, mask, found):  # type: ignore[no-untyped-def]
    """Where neighbouring tokens are the pieces of a word with a rule: bit L of mask[i] for L tokens from i on; returns how many such i."""
    begins, keys, follow, ends = rules[4], rules[5], rules[6], rules[7]
    m = 0
    for i in range(n):
        mask[i] = 0
        if not begins[hashes[i] >> np.uint64(48)]:
            continue
        state = 0
        for j in range(i, min(n, i + 16)):
            if j > i and gaps[j]:
                break
            h = (hashes[j] + np.uint64(state)) * PRIME
            s = slot(h, len(keys) - 1)
            while follow[s] and keys[s] != h:
                s = (s + 1) & (len(keys) - 1)
            state = follow[s]
            if state == 0:
                break
            if ends[state] and j > i:
                mask[i] |= np.uint16(1 << (j - i + 1))
        if mask[i]:
            found[m] = i
            m += 1
    return m


@compiled
def _join(codes, n, rules, room):  # type: ignore[no-untyped-def]
    """Put the pieces of words with a rule together again, in place, the longest first, then the leftmost; returns the new n."""
    starts, ends, hashes, gaps, found, mask = room[0], room[1], room[2], room[3], room[4], room[5]
    m = _matches(n, hashes, gaps, rules, mask, found)
    if m == 0:
        return n
    base = found[0]
    taken, chosen = np.zeros(found[m - 1] + 17 - base, np.bool_), np.zeros(found[m - 1] + 17 - base, np.int8)
    for length in range(15, 1, -1):
        for k in range(m):
            i = found[k]
            if mask[i] & np.uint16(1 << length):
                free = not taken[i - base] and not taken[i - base + length - 1]
                taken[i - base : i - base + length] = True
                if free:
                    chosen[i - base] = length
    w = r = base
    while r < n:
        length = chosen[r - base] if r - base < len(chosen) else 0
        if length == 0:
            starts[w], ends[w], hashes[w], gaps[w] = starts[r], ends[r], hashes[r], gaps[r]
            w, r = w + 1, r + 1
            continue
        whole = True
        for j in range(r + 1, r + length):
            whole = whole and starts[j] == ends[j - 1]
        lengths = own(codes, starts[r], ends[r + length - 1], rules[0], rules[1], rules[2]) if whole else 0
        if lengths:
            gap = gaps[r]
            stop = pieces(starts[r], lengths, starts, ends, w)
            for k in range(w, stop):
                hashes[k], gaps[k] = hash_of(codes, starts[k], ends[k]), 0
            gaps[w] = gap
            w = stop
        else:
            for j in range(r, r + length):
                starts[w], ends[w], hashes[w], gaps[w] = starts[j], ends[j], hashes[j], gaps[j]
                w += 1
        r += length
    return w


@compiled
def tokens(codes, a, b, kind, rules, room):  # type: ignore[no-untyped-def]
    """Tokens of codes[a:b] -> n; their begins, ends, hashes, and whether other white space than one space stands before each, in `room`."""
    starts, ends, hashes, gaps, behind = room[0], room[1], room[2], room[3], room[4]
    n, i = 0, a
    while i < b:
        blank = i
        while i < b and kind[codes[i]] & SPACE:
            i += 1
        gap = i > blank and not (i == blank + 1 and codes[blank] == 32 and blank > a)
        begin, plain = i, np.uint32(PLAIN)
        while i < b and not kind[codes[i]] & SPACE:
            plain &= kind[codes[i]]
            i += 1
        if begin < i:
            old = n
            if plain and not (i - begin <= LONGEST and own(codes, begin, i, rules[0], rules[1], rules[2])):
                starts[n], ends[n] = begin, i
                n += 1
            else:
                n = chunk(codes, begin, i, kind, rules, starts, ends, n, behind)
            for k in range(old, n):
                hashes[k], gaps[k] = hash_of(codes, starts[k], ends[k]), 0
            gaps[old] = gap
    return _join(codes, n, rules, room)


def room(longest: int) -> tuple[np.ndarray, ...]:
    """What `tokens` writes to, for texts of so many characters at most."""
    return tuple(np.empty(longest + 1, kind) for kind in (np.int32, np.int32, np.uint64, np.uint8, np.int32, np.uint16))


@lru_cache(maxsize=1)
def rules() -> tuple[np.ndarray, ...]:
    """The tables that the splitter reads: words with a rule (lengths by first character, hashes, pieces), units, and the trie of
    the token sequences that make up such a word (filter of first tokens, edges, what they lead to, which nodes end a word)."""
    lengths = np.zeros(256, np.uint16)
    keys, values, unit = np.zeros(4096, np.uint64), np.zeros(4096, np.int64), np.zeros(256, np.uint64)
    for word, parts in own_words().items():
        lengths[ord(word[0]) & 255] |= np.uint16(1 << len(word))
        _put(keys, _hash(word), values, sum(len(part) << 4 * k for k, part in enumerate(parts)))
    for one in units():
        _put(unit, _hash(one), unit, _hash(one))
    begins, edges, follow = np.zeros(1 << 16, np.uint8), np.zeros(4096, np.uint64), np.zeros(4096, np.int64)
    ends, nodes = np.zeros(4096, np.uint8), {}
    nothing = np.zeros(256, np.uint16), keys, values, unit  # no word has a rule
    for word, parts in own_words().items():
        codes = _codes(word)
        starts, stops, behind = (np.zeros(len(word) + 1, np.int32) for _ in range(3))
        n = chunk(codes, 0, len(word), kinds(), nothing, starts, stops, 0, behind)
        if n < max(2, len(parts)):  # nothing to join; or more pieces than tokens (°C.), which only ever stands alone
            continue
        path = [int(hash_of(codes, starts[k], stops[k])) for k in range(n)]
        begins[path[0] >> 48] = 1
        state = 0
        for h in path:
            if (state, h) not in nodes:
                nodes[state, h] = len(nodes) + 1
                _put(edges, (h + state) * int(PRIME) & 0xFFFFFFFFFFFFFFFF, follow, nodes[state, h])
            state = nodes[state, h]
        ends[state] = 1
    return lengths, keys, values, unit, begins, edges, follow, ends


def _codes(text: str) -> np.ndarray:
    return np.array([ord(c) for c in text], np.uint32)


def _hash(text: str) -> int:
    return int(hash_of(_codes(text), 0, len(text)))


def _put(keys: np.ndarray, h: int, values: np.ndarray, value: int) -> None:
    """Into a table with linear probing whose free places have the value 0."""
    s = (h ^ h >> 29) & len(keys) - 1
    while values[s]:
        s = s + 1 & len(keys) - 1
    keys[s], values[s] = h, value

"""Splitting English text into words, compiled: the rules of spaCy's tokenizer over arrays of code points, token for token.

Each chunk between white space is split by `affixes.py`; then neighbouring pieces that together are a word with a rule of its own (a
smiley in brackets) are put together again, the longest first. No step looks at a character more than a bounded number of times, so
hostile text costs no more than any other. Words are compared by 64-bit hashes. Legend: n tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bloomery.data.affixes import PRIME, SEED, SPACE, UNITS, WORDS, chunk, hash_of, mixed, own, pieces, slot
from bloomery.data.codes import pack
from bloomery.data.compiled import compiled
from bloomery.data.english import PLAIN, kinds, own_words, units

FIRST, EDGES = 4096, 4096  # parts of `trie`
ROWS, KEPT = 4096, 8  # chunks remembered, and tokens of one at most
END = 0xFFFFFFFF


@compiled
def _matches(n, hashes, gaps, trie, mask, found):  # type: ignore[no-untyped-def]
    """Where neighbouring tokens are the pieces of a word with a rule: bit L of mask[i] for L tokens from i on; returns how many such i."""
    m = 0
    for i in range(n):
        mask[i] = 0
        if not trie[np.int64(hashes[i] >> np.uint64(52))]:
            continue
        state = 0
        for j in range(i, min(n, i + 16)):
            if j > i and gaps[j]:
                break
            h = np.int64((hashes[j] + np.uint64(state)) * PRIME)
            s = slot(h, EDGES - 1)
            while trie[FIRST + EDGES + s] and trie[FIRST + s] != h:
                s = (s + 1) & (EDGES - 1)
            state = trie[FIRST + EDGES + s] >> 1
            if state == 0:
                break
            if trie[FIRST + EDGES + s] & 1 and j > i:
                mask[i] |= np.uint16(1 << (j - i + 1))
        if mask[i]:
            found[m] = i
            m += 1
    return m


@compiled
def _chosen(m, found, mask):  # type: ignore[no-untyped-def]
    """How many tokens to join from each on, counted from the first found: the longest first, then the leftmost, none twice."""
    base = found[0]
    taken, chosen = np.zeros(found[m - 1] + 17 - base, np.bool_), np.zeros(found[m - 1] + 17 - base, np.int8)
    for length in range(15, 1, -1):
        for k in range(m):
            i = found[k] - base
            if mask[found[k]] & np.uint16(1 << length):
                if not taken[i] and not taken[i + length - 1]:
                    chosen[i] = length
                taken[i : i + length] = True
    return chosen


@compiled
def _join(codes, n, table, trie, spans, hashes, gaps, found, mask):  # type: ignore[no-untyped-def]
    """Put the pieces of words with a rule together again, in place; returns the new n."""
    m = _matches(n, hashes, gaps, trie, mask, found)
    if m == 0:
        return n
    base = found[0]
    chosen = _chosen(m, found, mask)
    w = r = np.int64(base)
    while r < n:
        length = np.int64(chosen[r - base]) if r - base < len(chosen) else 0
        whole = length > 0
        for j in range(r + 1, r + length):
            whole = whole and spans[j] >> 32 == spans[j - 1] & END
        lengths = own(codes, spans[r] >> 32, spans[r + length - 1] & END, table) if whole else 0
        if lengths:
            gap = gaps[r]
            stop = pieces(spans[r] >> 32, lengths, spans, w)
            for k in range(w, stop):
                hashes[k], gaps[k] = hash_of(codes, spans[k] >> 32, spans[k] & END), 0
            gaps[w] = gap
            w, r = stop, r + length
        else:
            for j in range(r, r + max(1, length)):
                spans[w], hashes[w], gaps[w] = spans[j], hashes[j], gaps[j]
                w += 1
            r += max(1, length)
    return w


@compiled
def tokens(codes, a, b, kind, table, trie, room):  # type: ignore[no-untyped-def]
    """Tokens of codes[a:b] -> n; their spans (begin << 32 | end), hashes, and whether other white space than one space stands before
    each, in `room`."""
    spans, hashes, gaps, found, mask, memo = room
    n, i = 0, a
    while i < b:
        blank = i
        while i < b and kind[codes[i]] & SPACE:
            i += 1
        gap = i > blank and not (i == blank + 1 and codes[blank] == 32 and blank > a)
        begin, plain, has, h = i, np.uint32(PLAIN), np.uint32(0), SEED
        while i < b and not kind[codes[i]] & SPACE:
            k = kind[codes[i]]
            plain &= k
            has |= k
            h = (h ^ np.uint64(codes[i])) * PRIME
            i += 1
        if begin < i:
            gaps[n] = gap
            h = mixed(h)
            if plain and not own(codes, begin, i, table):
                spans[n], hashes[n] = begin << 32 | i, h
                n += 1
                continue
            row = memo[np.int64(h & np.uint64(ROWS - 1))]
            if row[0] == h:
                both = np.uint64(begin << 32 | begin)
                for k in range(np.int64(row[1])):
                    spans[n] = np.int64(row[2 + k] + both)
                    hashes[n] = row[2 + KEPT + k]
                    gaps[n + 1] = 0
                    n += 1
                continue
            old = n
            n = chunk(codes, begin, i, has, kind, table, spans, n, found)
            for k in range(old, n):
                hashes[k], gaps[k + 1] = hash_of(codes, spans[k] >> 32, spans[k] & END), 0
            if n - old <= KEPT:
                row[0], row[1] = h, n - old
                for k in range(n - old):
                    row[2 + k] = np.uint64(spans[old + k] - (begin << 32 | begin))
                    row[2 + KEPT + k] = hashes[old + k]
    return _join(codes, n, table, trie, spans, hashes, gaps, found, mask)


def room(longest: int) -> tuple[np.ndarray, ...]:
    """What `tokens` writes to, for texts of so many characters at most; the last is what it remembers of chunks lately split."""
    parts = tuple(np.empty(longest + 2, kind) for kind in (np.int64, np.uint64, np.uint8, np.int32, np.uint16))
    return (*parts, np.zeros((ROWS, 2 + 2 * KEPT), np.uint64))


@dataclass(frozen=True)
class Words:
    """The tokens of some texts, all ASCII or none; those of text d are first[d] to first[d + 1]."""

    rows: np.ndarray  # which texts
    codes: np.ndarray  # uint8 or uint32 code points of all texts on end
    offsets: np.ndarray  # int64, where each text begins in `codes`, and the end
    kind: np.ndarray  # bits of every character, see english.kinds
    first: np.ndarray  # int64
    spans: np.ndarray  # int64, begin << 32 | end in `codes`
    hashes: np.ndarray  # uint64
    gaps: np.ndarray  # uint8, whether other white space than one space stands before


_LAST: list = [(), ()]  # the texts that were split last, and their tokens: signals of one batch share them


def split(texts: Sequence[str]) -> list[Words]:
    """Tokens of all texts, in at most two groups. A second call with the very same texts gives the first one's result."""
    if len(texts) == len(_LAST[0]) and all(a is b for a, b in zip(texts, _LAST[0], strict=True)):
        return _LAST[1]
    groups = []
    for rows, codes, offsets, _ in pack(texts):
        kind = kinds(128 if codes.dtype == np.uint8 else 0x110000)
        found = _split(codes, offsets, kind, *tables(), room(int(np.diff(offsets).max())))
        groups.append(Words(rows, codes, offsets, kind, *found))
    _LAST[:] = tuple(texts), groups
    return groups


def forget() -> None:
    """Let go of the texts that were split last."""
    _LAST[:] = (), ()


@compiled
def _split(codes, offsets, kind, table, trie, room):  # type: ignore[no-untyped-def]
    first = np.zeros(len(offsets), np.int64)
    size = len(codes) // 4 + 64
    spans, hashes, gaps = np.empty(size, np.int64), np.empty(size, np.uint64), np.empty(size, np.uint8)
    for d in range(len(offsets) - 1):
        n = tokens(codes, offsets[d], offsets[d + 1], kind, table, trie, room)
        at = first[d]
        if at + n > len(spans):
            more = max(at + n, 2 * len(spans)) - at
            spans = np.concatenate((spans[:at], np.empty(more, np.int64)))
            hashes = np.concatenate((hashes[:at], np.empty(more, np.uint64)))
            gaps = np.concatenate((gaps[:at], np.empty(more, np.uint8)))
        spans[at : at + n], hashes[at : at + n], gaps[at : at + n] = room[0][:n], room[1][:n], room[2][:n]
        first[d + 1] = at + n
    return first, spans[: first[-1]], hashes[: first[-1]], gaps[: first[-1]]


@lru_cache(maxsize=1)
def tables() -> tuple[np.ndarray, np.ndarray]:
    """`table` of words with a rule and of units, as `affixes.py` tells; and `trie`, int64, of the token sequences that make up such a
    word: the first tokens (by 12 bits of their hash), the hashes of edges, and where they lead, doubled, odd at a word's end."""
    table, trie = np.zeros(512 + 2 * WORDS + UNITS, np.int64), np.zeros(FIRST + 2 * EDGES, np.int64)
    keys, values, unit = table[512 : 512 + WORDS], table[512 + WORDS : 512 + 2 * WORDS], table[512 + 2 * WORDS :]
    for one in units():
        _put(unit, _hash(one), unit, _hash(one))
    for word, parts in own_words().items():
        _put(keys, _hash(word), values, sum(len(part) << 4 * k for k, part in enumerate(parts)))
    nodes: dict[tuple[int, int], int] = {}
    places: dict[int, int] = {}
    for word, parts in own_words().items():
        codes = _codes(word)
        spans, behind = np.zeros(len(word) + 1, np.int64), np.zeros(len(word) + 1, np.int32)
        has = np.bitwise_or.reduce(kinds()[codes])
        n = chunk(codes, 0, len(word), has, kinds(), table, spans, 0, behind)  # as if no word had a rule: no lengths are set yet
        if n < max(2, len(parts)):  # nothing to join; or more pieces than tokens (°C.), which only ever stands alone
            continue
        path = [int(hash_of(codes, span >> 32, span & END)) for span in spans[:n].tolist()]
        trie[path[0] >> 52] = 1
        state = 0
        for h in path:
            if (state, h) not in nodes:
                nodes[state, h] = len(nodes) + 1
                h_edge = _signed((h + state) * int(PRIME) & 0xFFFFFFFFFFFFFFFF)
                places[nodes[state, h]] = _put(trie[FIRST : FIRST + EDGES], h_edge, trie[FIRST + EDGES :], 2 * nodes[state, h])
            state = nodes[state, h]
        trie[FIRST + EDGES + places[state]] |= 1
    for word in own_words():
        for place in (ord(word[0]) & 255, 256 + (ord(word[-1]) & 255)):
            table[place] |= 1 << len(word)
    return table, trie


def word_hash(word: str) -> int:
    """What `hashes` holds for a word."""
    return int(hash_of(_codes(word), 0, len(word)))


def _codes(text: str) -> np.ndarray:
    return np.array([ord(c) for c in text], np.uint32)


def _signed(h: int) -> int:
    return h - (1 << 64) if h >> 63 else h


def _hash(text: str) -> int:
    return _signed(word_hash(text))


def _put(keys: np.ndarray, h: int, values: np.ndarray, value: int) -> int:
    """Into a table with linear probing whose free places have the value 0; returns the place."""
    s = (h ^ h >> 29) & len(keys) - 1
    while values[s]:
        s = s + 1 & len(keys) - 1
    keys[s], values[s] = h, value
    return s

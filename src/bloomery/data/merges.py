"""Byte-level BPE over words that are cut already: merges by rank, and a cache of a fixed size in front of them.

The merges of a word are those of Sennrich et al. 2016, arXiv 1508.07909: always the pair of lowest rank, the leftmost first. A word of
up to 40 bytes that gives up to 20 ids is kept in one of two slots of 128 bytes: memory stays the same however long the text is, and
since a slot is compared byte by byte, ids never depend on what the cache holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bloomery.data.compiled import compiled
from bloomery.data.pretokens import gpt2_end, marks_end

SLOT = 16  # 64-bit numbers of a slot: bytes and ids counted, 5 of the word, 10 with two ids each
LONGEST, MOST = 40, 20  # bytes of a word and ids that a slot holds
PAD = 8  # bytes after the text that may be read, never used
SHORT = 64  # a longer word keeps its pairs in a heap instead of looking through all of them
NONE = np.uint64(0xFFFFFFFFFFFFFFFF)


def pair_table(merges: dict[tuple[int, int], tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(left, right) -> (rank, id) as an open-addressed table: keys left << 32 | right, and values rank << 32 | id."""
    size = 1 << max(4, (3 * len(merges)).bit_length())
    keys, values = np.full(size, NONE), np.full(size, NONE)
    pairs = np.array([(left << 32 | right, rank << 32 | new) for (left, right), (rank, new) in merges.items()], np.uint64)
    _fill(keys, values, pairs.reshape(-1, 2))
    return keys, values


@compiled
def _place(key: Any, size: int) -> int:
    x = key * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((x ^ (x >> np.uint64(29))) & np.uint64(size - 1))


@compiled
def _fill(keys: Any, values: Any, pairs: Any) -> None:
    for n in range(pairs.shape[0]):
        i = _place(pairs[n, 0], keys.shape[0])
        while keys[i] != NONE:
            i = (i + 1) % keys.shape[0]
        keys[i], values[i] = pairs[n, 0], pairs[n, 1]


@compiled
def _merge_of(left: Any, right: Any, keys: Any, values: Any) -> Any:
    """rank << 32 | id of a pair; NONE where the two do not merge."""
    key = np.uint64(left) << np.uint64(32) | np.uint64(right)
    i = _place(key, keys.shape[0])
    while True:
        found = keys[i]
        if found == key:
            return values[i]
        if found == NONE:
            return NONE
        i = (i + 1) & (keys.shape[0] - 1)


@compiled
def merged(ids: Any, n: int, keys: Any, values: Any, pairs: Any) -> int:
    """Merge the first `n` ids in place and say how many are left; `pairs` is room for as many numbers. Looks at all pairs each time."""
    for i in range(n - 1):
        pairs[i] = _merge_of(ids[i], ids[i + 1], keys, values)
    while n > 1:
        best, at = pairs[0], 0
        for i in range(1, n - 1):
            if pairs[i] < best:
                best, at = pairs[i], i
        if best == NONE:
            break
        ids[at] = np.uint32(best & np.uint64(0xFFFFFFFF))
        for i in range(at + 1, n - 1):
            ids[i] = ids[i + 1]
            pairs[i] = pairs[i + 1]
        n -= 1
        if at:
            pairs[at - 1] = _merge_of(ids[at - 1], ids[at], keys, values)
        if at < n - 1:
            pairs[at] = _merge_of(ids[at], ids[at + 1], keys, values)
    return n


@compiled
def _sift(heap: Any, size: int, entry: Any) -> None:
    """Put an entry (rank, place) into a heap of `size` rows that has room for one more."""
    i = size
    while i:
        up = (i - 1) >> 1
        if heap[up, 0] < entry[0] or (heap[up, 0] == entry[0] and heap[up, 1] < entry[1]):
            break
        heap[i, 0], heap[i, 1] = heap[up, 0], heap[up, 1]
        i = up
    heap[i, 0], heap[i, 1] = entry


@compiled
def _pop(heap: Any, size: int) -> None:
    """Take the first row out of a heap of `size` rows."""
    rank, at = heap[size - 1, 0], heap[size - 1, 1]
    i, size = 0, size - 1
    while True:
        down = 2 * i + 1
        if down >= size:
            break
        if down + 1 < size and (
            heap[down + 1, 0] < heap[down, 0] or (heap[down + 1, 0] == heap[down, 0] and heap[down + 1, 1] < heap[down, 1])
        ):
            down += 1
        if rank < heap[down, 0] or (rank == heap[down, 0] and at <= heap[down, 1]):
            break
        heap[i, 0], heap[i, 1] = heap[down, 0], heap[down, 1]
        i = down
    heap[i, 0], heap[i, 1] = rank, at


@compiled
def merged_long(ids: Any, n: int, keys: Any, values: Any) -> int:
    """`merged` in n log n steps: pairs wait in a heap, and one whose sides have changed since is passed over."""
    after, before = np.arange(1, n + 1), np.arange(-1, n - 1)
    gone = np.zeros(n, np.bool_)
    heap = np.empty((3 * n, 2), np.uint64)
    size = 0
    for i in range(n - 1):
        found = _merge_of(ids[i], ids[i + 1], keys, values)
        if found != NONE:
            _sift(heap, size, (found, np.uint64(i)))
            size += 1
    while size:
        best, at = heap[0, 0], np.int64(heap[0, 1])
        _pop(heap, size)
        size -= 1
        if gone[at] or after[at] >= n or _merge_of(ids[at], ids[after[at]], keys, values) != best:
            continue
        right = after[at]
        ids[at] = np.uint32(best & np.uint64(0xFFFFFFFF))
        gone[right] = True
        after[at] = after[right]
        if after[at] < n:
            before[after[at]] = at
        for left in (before[at], at):
            if left >= 0 and after[left] < n:
                found = _merge_of(ids[left], ids[after[left]], keys, values)
                if found != NONE:
                    _sift(heap, size, (found, np.uint64(left)))
                    size += 1
    left = 0
    for i in range(n):
        if not gone[i]:
            ids[left] = ids[i]
            left += 1
    return left


@compiled
def _eight(codes: Any, i: int, end: int) -> Any:
    """The eight bytes from `i` on as one number, 0 from `end` on; the compiler makes one read of it."""
    x = (
        np.uint64(codes[i]) | np.uint64(codes[i + 1]) << np.uint64(8) | np.uint64(codes[i + 2]) << np.uint64(16)
        | np.uint64(codes[i + 3]) << np.uint64(24) | np.uint64(codes[i + 4]) << np.uint64(32) | np.uint64(codes[i + 5]) << np.uint64(40)
        | np.uint64(codes[i + 6]) << np.uint64(48) | np.uint64(codes[i + 7]) << np.uint64(56)
    )  # fmt: skip
    left = end - i
    return x if left >= 8 else x & ((np.uint64(1) << np.uint64(8 * left)) - np.uint64(1))


@compiled
def _same(slot: Any, codes: Any, start: int, stop: int) -> bool:
    """Whether a slot holds the word between two places."""
    if slot[0] & np.uint64(0xFF) != np.uint64(stop - start):
        return False
    k = 1
    for i in range(start, stop, 8):
        if slot[k] != _eight(codes, i, stop):
            return False
        k += 1
    return True


@compiled
def _keep(slot: Any, codes: Any, start: int, stop: int, ids: Any, n: int) -> None:
    """Write a word and its ids into a slot."""
    slot[0] = np.uint64(stop - start) | np.uint64(n) << np.uint64(8)
    k = 1
    for i in range(start, stop, 8):
        slot[k] = _eight(codes, i, stop)
        k += 1
    for i in range(0, n, 2):
        second = np.uint64(ids[i + 1]) if i + 1 < n else np.uint64(0)
        slot[6 + (i >> 1)] = np.uint64(ids[i]) | second << np.uint64(32)


@compiled
def _word(codes: Any, start: int, stop: int, singles: Any, keys: Any, values: Any, out: Any, room: Any) -> int:
    """The ids of a word by its merges, into `out`; how many."""
    n = stop - start
    for i in range(n):
        out[i] = singles[codes[start + i]]
    return merged(out, n, keys, values, room) if n <= SHORT else merged_long(out, n, keys, values)


@compiled
def encode(
    codes: Any, offsets: Any, frame: Any, digits: int, table: Any, singles: Any, keys: Any, values: Any, cache: Any, out: Any, counts: Any
) -> int:
    """The ids of texts that lie one after the other in `codes`, between `offsets`, each between the two ids of `frame` (-1: none).

    `counts` gets the ids of each text; how many there are in all, or -1 where a character's kind is not known yet.
    """
    n, room, mask = 0, np.empty(SHORT, np.uint64), np.int64(cache.shape[0] - 1)
    for d in range(counts.shape[0]):
        first, i, end = n, offsets[d], offsets[d + 1]
        if frame[0] >= 0:
            out[n] = np.uint32(frame[0])
            n += 1
        while i < end:
            j = gpt2_end(codes, i, end, table) if digits == 0 else marks_end(codes, i, end, table, digits)
            if j < 0:
                return -1
            if j - i > LONGEST:
                n += _word(codes, i, j, singles, keys, values, out[n:], room)
                i = j
                continue
            h = np.uint64(j - i)
            for k in range(i, j, 8):
                h = (h ^ _eight(codes, k, j)) * np.uint64(0x9E3779B97F4A7C15)
                h ^= h >> np.uint64(32)
            at = np.int64(h >> np.uint64(7)) & mask
            if not _same(cache[at], codes, i, j):
                if _same(cache[at ^ 1], codes, i, j):
                    at ^= 1
                else:
                    made = _word(codes, i, j, singles, keys, values, out[n:], room)
                    if made <= MOST:
                        if cache[at, 0] != np.uint64(0):  # the older of the two makes room
                            cache[at ^ 1] = cache[at]
                        _keep(cache[at], codes, i, j, out[n:], made)
                    n += made
                    i = j
                    continue
            slot = cache[at]
            held = np.int64(slot[0] >> np.uint64(8))
            for k in range(0, held, 2):
                two = slot[6 + (k >> 1)]
                out[n + k] = np.uint32(two & np.uint64(0xFFFFFFFF))
                if k + 1 < held:
                    out[n + k + 1] = np.uint32(two >> np.uint64(32))
            n += held
            i = j
        if frame[1] >= 0:
            out[n] = np.uint32(frame[1])
            n += 1
        counts[d] = n - first
    return n

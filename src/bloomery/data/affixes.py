"""Splitting a chunk, text between white space, into words, compiled: the first half of `words.py`.

A chunk with a rule of its own (`english.own_words`) is split by it; else marks are taken off its front and back, one at a time, until
nothing can be taken or what is left has a rule; what is left is one word if it is a web address, and otherwise split at the marks
inside. Digits in addresses are ASCII digits here. Legend: a, b begin and end of a piece of `codes`; kind, bits of
every character; spans, tokens as begin << 32 | end; n of them; table, see WORDS.
"""

from __future__ import annotations

import numpy as np

from bloomery.data.compiled import compiled, inlined
from bloomery.data.english import (
    AT_BIT,
    BEFORE_DOT,
    DIGIT_ASCII,
    DOT_BIT,
    HOST,
    ICON,
    INNER,
    LETTER,
    LOWER,
    PREFIX,
    QUOTE,
    SUFFIX,
    UPPER,
)

LONGEST = 12  # characters of the longest word with a rule
WORDS, UNITS = 4096, 256  # slots of the hash tables in `table`, int64: 512 sets of lengths as bits, of words with a rule by their first
# and by their last character; the words' hashes and pieces; the units' hashes
SEED, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
SPACE = 4
DOT, HYPHEN, COLON, SLASH, AT, PLUS = 46, 45, 58, 47, 64, 43
ELLIPSIS, EN_DASH, EM_DASH = 0x2026, 0x2013, 0x2014


@inlined
def mixed(h):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return h ^ (h >> np.uint64(32))


@compiled
def hash_of(codes, a, b):  # type: ignore[no-untyped-def]
    """FNV-1a of a piece, its bits mixed once more."""
    h = SEED
    for i in range(a, b):
        h = (h ^ np.uint64(codes[i])) * PRIME
    return mixed(h)


@inlined
def slot(h, mask):  # type: ignore[no-untyped-def]
    return np.int64(h ^ h >> 29) & mask


@inlined
def own(codes, a, b, table):  # type: ignore[no-untyped-def]
    """Lengths of the pieces of a word with a rule of its own, four bits each, the first lowest; 0 for any other."""
    length = b - a
    if length > LONGEST or length < 1 or not (table[codes[a] & 255] & table[256 + (codes[b - 1] & 255)]) >> length & 1:
        return 0
    return _looked_up(codes, a, b, table)


@compiled
def _looked_up(codes, a, b, table):  # type: ignore[no-untyped-def]
    h = np.int64(hash_of(codes, a, b))
    s = slot(h, WORDS - 1)
    while table[512 + WORDS + s] != 0:
        if table[512 + s] == h:
            return table[512 + WORDS + s]
        s = (s + 1) & (WORDS - 1)
    return 0


@compiled
def _unit(codes, a, b, table):  # type: ignore[no-untyped-def]
    """Whether a piece is a unit or a currency."""
    h = np.int64(hash_of(codes, a, b))
    s = slot(h, UNITS - 1)
    while table[512 + 2 * WORDS + s] != 0:
        if table[512 + 2 * WORDS + s] == h:
            return True
        s = (s + 1) & (UNITS - 1)
    return False


@inlined
def _prefix(codes, a, b, kind):  # type: ignore[no-untyped-def]
    """How many characters are taken off the front."""
    c = codes[a]
    if kind[c] & PREFIX:
        return 1
    if c == PLUS:
        return 0 if a + 1 < b and kind[codes[a + 1]] & DIGIT_ASCII else 1
    if c == DOT:
        i = a
        while i < b and codes[i] == DOT:
            i += 1
        return i - a if i - a > 1 else 0
    if a + 1 < b and codes[a + 1] == 36 and (c == 67 or c == 65):  # C$ A$
        return 2
    if a + 2 < b and c == 85 and codes[a + 1] == 83 and codes[a + 2] == 36:  # US$
        return 3
    return 0


@inlined
def _suffix(codes, a, b, has, kind, table):  # type: ignore[no-untyped-def]
    """How many characters are taken off the back: the longest that any rule takes."""
    if a >= b:
        return 0
    c = codes[b - 1]
    found = 1 if kind[c] & SUFFIX else 0
    if c == DOT:
        i = b
        while i > a and codes[i - 1] == DOT:
            i -= 1
        if b - i > 1:
            return b - i
        if b - a > 1:
            before = codes[b - 2]
            if kind[before] & BEFORE_DOT:
                return 1
            if b - a > 2 and kind[before] & UPPER and kind[codes[b - 3]] & UPPER:
                return 1
            if b - a > 2 and codes[b - 3] == 0xB0 and (before | 32 == 102 or before | 32 == 99 or before | 32 == 107):
                return 1
        return found
    if (c == 115 or c == 83) and b - a > 1 and (codes[b - 2] == 39 or codes[b - 2] == 0x2019):
        return 2
    if c == ELLIPSIS and b - a > 1 and codes[b - 2] == ELLIPSIS:
        return 2
    if has & DIGIT_ASCII and b - a > 1 and not kind[c] & DIGIT_ASCII:
        if c == PLUS:
            return 1 if kind[codes[b - 2]] & DIGIT_ASCII else 0
        i = b - 1
        low = max(a, b - 8)
        while i >= low and not kind[codes[i]] & DIGIT_ASCII:
            i -= 1
        if i >= low:
            return b - i - 1 if _unit(codes, i + 1, b, table) else found
    return found


@compiled
def _octets(codes, a, b, kind):  # type: ignore[no-untyped-def]
    """Where a public IPv4 address that begins at a ends, or -1."""
    i, first, second = a, 0, 0
    for part in range(4):
        begin, value = i, 0
        while i < b and i - begin < 4 and kind[codes[i]] & DIGIT_ASCII:
            value = value * 10 + np.int64(codes[i]) - 48
            i += 1
        digits = i - begin
        if digits < 1 or digits > 3 or value > 255 or (digits == 3 and value < 100):
            return -1
        if part == 0:
            first = value
        elif part == 1:
            second = value
        if (part == 0 or part == 3) and (value == 0 or codes[begin] == 48 or value > (223 if part == 0 else 254)):
            return -1
        if part < 3:
            if i >= b or codes[i] != DOT:
                return -1
            i += 1
    private = first == 10 or first == 127 or (first == 169 and second == 254) or (first == 192 and second == 168)
    return -1 if private or (first == 172 and 16 <= second <= 31) else i


@compiled
def _domain(codes, a, b, kind):  # type: ignore[no-untyped-def]
    """Where a dotted name with a top-level domain in small letters ends, or -1."""
    i, labels = a, 0
    while True:
        begin, small = i, True
        while i < b and (kind[codes[i]] & HOST or codes[i] == 95 or codes[i] == HYPHEN or kind[codes[i]] & LOWER):
            small = small and kind[codes[i]] & LOWER != 0
            i += 1
        if i < b and codes[i] == DOT:
            if i == begin or i - begin > 64 or not kind[codes[begin]] & HOST or not kind[codes[i - 1]] & HOST:
                return -1
            for k in range(begin, i):
                if codes[k] > 0xFFFF:
                    return -1
            labels += 1
            i += 1
        else:
            return i if labels and small and 2 <= i - begin <= 63 else -1


@compiled
def _ends_address(codes, i, b, kind):  # type: ignore[no-untyped-def]
    """Whether what follows a host is nothing, a port, a path."""
    if i < b and codes[i] == COLON:
        begin = i + 1
        i = begin
        while i < b and kind[codes[i]] & DIGIT_ASCII:
            i += 1
        if not 2 <= i - begin <= 5:
            return False
    return i == b or codes[i] == SLASH or codes[i] == 63 or codes[i] == 35


@compiled
def _hosted(codes, a, b, kind):  # type: ignore[no-untyped-def]
    """Whether a host begins at a, and no more than a port and a path follows it."""
    stop = _octets(codes, a, b, kind)
    if stop >= 0 and _ends_address(codes, stop, b, kind):
        return True
    stop = _domain(codes, a, b, kind)
    return stop >= 0 and _ends_address(codes, stop, b, kind)


@compiled
def _address(codes, a, b, has, kind):  # type: ignore[no-untyped-def]
    """Whether a piece is a web address: scheme, user and port are optional."""
    if not has & DOT_BIT:
        return False
    if _hosted(codes, a, b, kind):
        return True
    for i in range(a, b - 2):
        c = codes[i]
        if c == COLON:
            if i - a >= 2 and codes[i + 1] == SLASH and codes[i + 2] == SLASH and _hosted(codes, i + 3, b, kind):
                return True
            break
        if not (kind[c] & 3 or c == 95 or c in (PLUS, HYPHEN, DOT)):  # \w without marks, + - .
            break
    if has & AT_BIT:
        for at in range(a + 2, b):
            if codes[at - 1] == AT and _hosted(codes, at, b, kind):
                return True
    return False


@inlined
def _infix(codes, a, i, b, kind):  # type: ignore[no-untyped-def]
    """Length of the mark inside a piece that begins at i, 0 for none."""
    c = codes[i]
    k = kind[c]
    if k & ICON or c == ELLIPSIS:
        return 1
    if c == DOT and i + 1 < b and codes[i + 1] == DOT:
        j = i
        while j < b and codes[j] == DOT:
            j += 1
        return j - i
    if i == a or i + 1 >= b:
        return 0
    before, after = kind[codes[i - 1]], kind[codes[i + 1]]
    number = before & DIGIT_ASCII
    if number and c in (PLUS, HYPHEN, 42, 94) and (after & DIGIT_ASCII or codes[i + 1] == HYPHEN):
        return 1
    if c == DOT:
        return 1 if before & (LOWER | QUOTE) and after & (UPPER | QUOTE) else 0
    if c == 44:
        return 1 if before & LETTER and after & LETTER else 0
    if not before & (LETTER | DIGIT_ASCII):
        return 0
    if c in (COLON, 60, 61, 62, SLASH):
        return 1 if after & LETTER else 0
    if c in (HYPHEN, EM_DASH):
        most = 3 if c == HYPHEN else 2
        j = i
        while j < b and codes[j] == c and j - i < most:
            j += 1
        return j - i if j < b and kind[codes[j]] & LETTER else 0
    if (c == EN_DASH or c == 126) and after & LETTER:
        return 1
    return 0


@compiled
def pieces(a, lengths, spans, n):  # type: ignore[no-untyped-def]
    """Append the pieces of a word with a rule, from the lengths that `own` gives."""
    while lengths:
        spans[n] = a << 32 | a + (lengths & 15)
        a += lengths & 15
        lengths >>= 4
        n += 1
    return n


@inlined
def _inside(codes, a, b, has, kind, spans, n):  # type: ignore[no-untyped-def]
    """Split a piece at the marks inside; returns the new n."""
    begin = a
    if has & INNER:
        i = a
        while i < b:
            if not kind[codes[i]] & INNER:
                i += 1
                continue
            size = _infix(codes, a, i, b, kind)
            if size and i > a:
                if i > begin:
                    spans[n] = begin << 32 | i
                    n += 1
                begin = i + size
                spans[n] = i << 32 | begin
                n += 1
            i += max(1, size)
    if begin < b:
        spans[n] = begin << 32 | b
        n += 1
    return n


@compiled
def chunk(codes, a, b, has, kind, table, spans, n, behind):  # type: ignore[no-untyped-def]
    """Split a chunk: append its tokens at n, return the new n. `has`: the bits of all its characters together; `behind`: room for the
    marks taken off its back."""
    taken = 0
    left = -1
    while a < b and b - a != left:
        if own(codes, a, b, table):
            break
        left = b - a
        before = _prefix(codes, a, b, kind)
        if before and before < left and own(codes, a + before, b, table):
            spans[n] = a << 32 | a + before
            n, a = n + 1, a + before
            break
        after = _suffix(codes, a + before, b, has, kind, table)
        if after and after < left and own(codes, a, b - after, table):
            behind[taken] = b
            taken, b = taken + 1, b - after
            break
        if before:
            spans[n] = a << 32 | a + before
            n, a = n + 1, a + before
        if after:
            behind[taken] = b
            taken, b = taken + 1, b - after
    if a < b:
        lengths = own(codes, a, b, table)
        if lengths:
            n = pieces(a, lengths, spans, n)
        elif has & DOT_BIT and _address(codes, a, b, has, kind):
            spans[n] = a << 32 | b
            n += 1
        else:
            n = _inside(codes, a, b, has, kind, spans, n)
    for k in range(taken - 1, -1, -1):
        spans[n] = b << 32 | behind[k]
        b = behind[k]
        n += 1
    return n

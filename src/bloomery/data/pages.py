"""The lines of a web page as C4 looks at them, compiled: ends of lines, words, citations, phrases and sentences."""

from __future__ import annotations

import numpy as np

from bloomery.data.codes import DIGIT, SPACE
from bloomery.data.compiled import compiled
from bloomery.data.english import FULL_STOP, LINE_END, PUNCTUATION
from bloomery.data.words import END

_EDIT = np.frombuffer(b"edit]", np.uint8)
_NEEDED = np.frombuffer(b"citation needed]", np.uint8)


@compiled
def line_end(codes, i, end, kind):  # type: ignore[no-untyped-def]
    """The line that begins at i, without white space at both ends, and where the next one begins (str.splitlines)."""
    a = i
    while i < end and not kind[codes[i]] & LINE_END:
        i += 1
    b = i
    if i < end:
        i += 2 if codes[i] == 13 and i + 1 < end and codes[i + 1] == 10 else 1
    while a < b and kind[codes[a]] & SPACE:
        a += 1
    while b > a and kind[codes[b - 1]] & SPACE:
        b -= 1
    return a, b, i


@compiled
def words_of_line(codes, a, b, kind):  # type: ignore[no-untyped-def]
    """Words between white space, and the characters of the longest."""
    words = widest = length = 0
    for i in range(a, b + 1):
        if i < b and not kind[codes[i]] & SPACE:
            length += 1
        elif length:
            words += 1
            widest = max(widest, length)
            length = 0
    return words, widest


@compiled
def _follows(codes, i, b, what):  # type: ignore[no-untyped-def]
    if i + len(what) > b:
        return False
    k = 0
    while k < len(what) and codes[i + k] == what[k]:
        k += 1
    return k == len(what)


@compiled
def without_citations(codes, a, b, kind, clean):  # type: ignore[no-untyped-def]
    """Write the line to `clean` without [1], [], [edit] and [citation needed]; returns its length, or -1 where it has none of these."""
    n, i, found = 0, a, False
    while i < b:
        if codes[i] == 91:
            stop = i + 1
            while stop < b and kind[codes[stop]] & DIGIT:
                stop += 1
            if stop < b and codes[stop] == 93:
                stop += 1
            elif _follows(codes, i + 1, b, _EDIT):
                stop = i + 6
            elif _follows(codes, i + 1, b, _NEEDED):
                stop = i + 17
            else:
                stop = i
            if stop > i:
                if not found:
                    for k in range(a, i):
                        clean[k - a] = codes[k]
                    n, found = i - a, True
                i = stop
                continue
        if found:
            clean[n] = codes[i]
            n += 1
        i += 1
    return n if found else -1


@compiled
def needles(codes, a, b, phrases, begins):  # type: ignore[no-untyped-def]
    """Which phrases a line holds, in small or capital letters: bit k for phrases[begins[k]:begins[k + 1]]."""
    seen = 0
    first = np.zeros(128, np.bool_)
    for k in range(len(begins) - 1):
        first[phrases[begins[k]]] = True
    for i in range(a, b):
        c = _small(codes[i])
        if c < 128 and first[c]:
            for k in range(len(begins) - 1):
                size = begins[k + 1] - begins[k]
                if i + size <= b and not seen >> k & 1:
                    j = 0
                    while j < size and _small(codes[i + j]) == phrases[begins[k] + j]:
                        j += 1
                    if j == size:
                        seen |= 1 << k
    return seen


@compiled
def _small(c):  # type: ignore[no-untyped-def]
    """Of ASCII, and of the Kelvin sign, whose small letter is k."""
    c = np.int64(c)
    if 65 <= c <= 90:
        return c + 32
    return 107 if c == 0x212A else c


@compiled
def sentences(codes, kind, spans, gaps, t, u):  # type: ignore[no-untyped-def]
    """Sentences of the tokens t to u: one more begins with whatever is no mark behind a full stop."""
    count, stopped = np.int64(u > t), False
    for k in range(t, u):
        a, b = spans[k] >> 32, spans[k] & END
        if stopped and gaps[k] and k > t:  # white space is a token of its own, and begins the sentence
            count += 1
            stopped = False
        stop = b - a == 1 and kind[codes[a]] & FULL_STOP != 0
        marks = True
        for i in range(a, b):
            marks = marks and kind[codes[i]] & PUNCTUATION != 0
        if stopped and not marks and not stop:
            count += 1
            stopped = False
        elif stop:
            stopped = True
    return count

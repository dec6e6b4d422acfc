"""Signal `comments`: how much of Python code is explanation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bloomery.data.codes import pack
from bloomery.data.compiled import compiled
from bloomery.seams import Doc, Tools

LIKELY = re.compile(r"^(?:\s*(?:def \w+\(|class \w+[:(]|from [\w.]+ import |@\w+)|import \w+)", re.MULTILINE)


@compiled
def _string_end(codes, at, stop):  # type: ignore[no-untyped-def]
    """Where the string that opens with the quote at `at` ends; a one-line string ends at the latest with its line."""
    quote = codes[at]
    triple = at + 2 < stop and codes[at + 1] == quote and codes[at + 2] == quote
    i = at + (3 if triple else 1)
    while i < stop:
        c = codes[i]
        if c == 92:
            i += 2
        elif c == quote and not triple:
            return i + 1
        elif c == quote and i + 2 < stop and codes[i + 1] == quote and codes[i + 2] == quote:
            return i + 3
        elif c == 10 and not triple:
            return i
        else:
            i += 1
    return stop


@compiled
def _prefixed(codes, at, stop):  # type: ignore[no-untyped-def]
    """Position of the quote when a string with or without prefix letters (r, b, u, f, two of them at most) begins at `at`, else -1."""
    for i in range(at, min(at + 3, stop)):
        c = codes[i]
        if c == 34 or c == 39:
            return i
        low = c | np.uint32(32)
        if not (low == 114 or low == 98 or low == 117 or low == 102):
            return -1
    return -1


@compiled
def _explained(codes, start, stop):  # type: ignore[no-untyped-def]
    """Characters in comments, and in strings that stand alone as a statement."""
    i, depth, total = start, 0, 0
    fresh = True  # at the start of a statement
    while i < stop:
        c = codes[i]
        if c == 35:
            begin = i
            while i < stop and codes[i] != 10:
                i += 1
            total += i - begin
            continue
        quote = _prefixed(codes, i, stop)
        if quote >= 0:
            end = _string_end(codes, quote, stop)
            after = end
            while after < stop and (codes[after] == 32 or codes[after] == 9):
                after += 1
            alone = after >= stop or codes[after] == 10 or codes[after] == 13 or codes[after] == 35 or codes[after] == 59
            if fresh and depth == 0 and alone:
                total += end - i
            i, fresh = end, False
            continue
        if c == 40 or c == 91 or c == 123:
            depth += 1
        elif c == 41 or c == 93 or c == 125:
            depth = max(0, depth - 1)
        if c == 92 and i + 1 < stop and codes[i + 1] == 10:
            i += 2  # the statement goes on in the next line
            continue
        if c == 10 or c == 59:
            fresh = True
        elif c != 32 and c != 9 and c != 13 and c != 12:
            fresh = False
            while i + 1 < stop and _of_name(codes[i]) and _of_name(codes[i + 1]):
                i += 1  # to the end of a name, whose last letters are no string prefix
        i += 1
    return total


@compiled
def _of_name(c):  # type: ignore[no-untyped-def]
    return (48 <= c <= 57) or (65 <= c <= 90) or (97 <= c <= 122) or c == 95 or c >= 128


@compiled
def _measure(codes, offsets, out):  # type: ignore[no-untyped-def]
    for d in range(offsets.shape[0] - 1):
        out[d] = _explained(codes, offsets[d], offsets[d + 1]) / max(1, offsets[d + 1] - offsets[d])


@dataclass(frozen=True)
class Comments:
    """Share of the characters of Python code that are in comments or in strings that stand alone, such as docstrings.

    Source: standard practice; the comment share is a filter of code corpora since Allal et al. 2023, arXiv 2301.03988.
    Differs: scanned without parsing, so broken code is measured too; a docstring on the line of its `def` or `class` does not
    count, nor is an f-string followed into nested quotes of its own kind.
    Costs: one pass over the characters.
    """

    language: Literal["auto", "python"] = "auto"  # auto: 0 for what neither its ending nor its lines show to be Python

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """share (of all characters)."""
        found = np.zeros(len(docs))
        python = [i for i, doc in enumerate(docs) if self.language == "python" or _is_python(doc)]
        for rows, codes, offsets, _ in pack([docs[i].text for i in python]):
            out = np.zeros(len(rows))
            _measure(codes, offsets, out)
            found[np.array(python)[rows]] = out
        return {"share": found}


def _is_python(doc: Doc) -> bool:
    """By the ending of its path; where this says nothing, by lines that only Python has."""
    name = str(doc.meta.get("path", "")).rsplit("/", 1)[-1].split(":")[0]
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending in ("py", "pyi", "pyw"):
        return True
    return ending in ("", "jsonl", "parquet", "csv", "tsv", "gz", "zst") and LIKELY.search(doc.text) is not None

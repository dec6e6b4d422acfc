"""Signal `fineweb`: whether a document's lines are sentences, by the three rules that FineWeb added and its list rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.data.codes import SPACE
from bloomery.data.compiled import compiled
from bloomery.data.english import TERMINAL
from bloomery.data.words import split
from bloomery.seams import Doc, Tools

NAMES = ("lines", "terminal_lines", "short_lines", "duplicate_characters", "newlines_per_word")


@compiled
def _measure(codes, offsets, kind, first, short, out):  # type: ignore[no-untyped-def]
    longest, slots = 1, 64
    for d in range(len(offsets) - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    while slots < longest + 2:
        slots *= 2
    key, stamp = np.empty(slots, np.uint64), np.zeros(slots, np.int64)
    for d in range(len(offsets) - 1):
        lines = terminal = brief = repeated = feeds = 0
        i, end, mask = offsets[d], offsets[d + 1], np.uint64(63)
        while mask < np.uint64(end - i):
            mask = mask * np.uint64(2) + np.uint64(1)
        while i < end:
            begin, blank, h = i, True, np.uint64(0xCBF29CE484222325)
            while i < end and codes[i] != 10:
                h = (h ^ np.uint64(codes[i])) * np.uint64(0x100000001B3)
                blank = blank and kind[codes[i]] & SPACE != 0
                i += 1
            if not blank:
                lines += 1
                terminal += kind[codes[i - 1]] & TERMINAL != 0
                brief += i - begin <= short
                p = (h ^ (h >> np.uint64(31))) & mask
                while stamp[p] == d + 1 and key[p] != h:
                    p = (p + np.uint64(1)) & mask
                if stamp[p] == d + 1:
                    repeated += i - begin
                stamp[p], key[p] = d + 1, h
            feeds += i < end
            i += 1
        out[d, 0] = lines
        out[d, 1], out[d, 2] = terminal / max(1, lines), brief / max(1, lines)
        out[d, 3] = repeated / max(1, offsets[d + 1] - offsets[d] - feeds)
        out[d, 4] = feeds / max(1, first[d + 1] - first[d])


@dataclass(frozen=True)
class Fineweb:
    """Shares of lines that end in a stop and that are short, of characters in repeated lines, and line feeds for each word.

    Source: Penedo et al. 2024, arXiv 2406.17557, section 3.5; marks and words as in datatrove.
    Differs: thresholds are the recipe's (recipes/filters/fineweb.yaml has the paper's); English words as spaCy splits them.
    Costs: words are split once for all signals of a batch that count them; then one pass over the characters.
    """

    short: int = 30  # characters of a short line at most

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """lines (not blank), terminal_lines, short_lines (shares of these), duplicate_characters (share of the characters but line
        feeds that are in lines that came before), newlines_per_word."""
        found = np.zeros((len(docs), len(NAMES)))
        for w in split([doc.text for doc in docs]):
            out = np.zeros((len(w.rows), len(NAMES)))
            _measure(w.codes, w.offsets, w.kind, w.first, self.short, out)
            found[w.rows] = out
        return {name: found[:, k] for k, name in enumerate(NAMES)}

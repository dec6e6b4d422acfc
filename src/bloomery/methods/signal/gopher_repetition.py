"""Signal `gopher_repetition`: how much of a document says the same thing again, in Gopher's way of counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.data.codes import SPACE
from bloomery.data.compiled import compiled
from bloomery.data.repeats import grams, parts
from bloomery.data.words import split
from bloomery.seams import Doc, Tools

NAMES = (
    "duplicate_paragraphs", "duplicate_paragraph_characters", "duplicate_lines", "duplicate_line_characters",
    *(f"top_{n}gram" for n in (2, 3, 4)), *(f"duplicate_{n}gram" for n in range(5, 11)),
)  # fmt: skip


@compiled
def _measure(codes, offsets, kind, first, spans, hashes, out):  # type: ignore[no-untyped-def]
    most, longest, slots = 1, 1, 64
    for d in range(len(offsets) - 1):
        most, longest = max(most, first[d + 1] - first[d]), max(longest, offsets[d + 1] - offsets[d])
    while slots < 2 * longest + 2:
        slots *= 2
    key, stamp, count = np.empty(slots, np.uint64), np.zeros(slots, np.int64), np.empty(slots, np.int64)
    work = np.empty((4, most), np.int64)
    now = 0
    for d in range(len(offsets) - 1):
        a, b = offsets[d], offsets[d + 1]
        slots, feeds = 64, 0
        for i in range(a, b):
            feeds += codes[i] == 10
        while slots < 2 * max(feeds + 1, first[d + 1] - first[d]):
            slots *= 2
        begin, end = a, b
        while begin < end and kind[codes[begin]] & SPACE:
            begin += 1
        while end > begin and kind[codes[end - 1]] & SPACE:
            end -= 1
        parts(codes, begin, end, 2, key, stamp, now + 1, slots - 1, b - a, out[d, 0:2])
        parts(codes, a, b, 1, key, stamp, now + 2, slots - 1, b - a, out[d, 2:4])
        t, u = first[d], first[d + 1]
        now = grams(spans[t:u], hashes[t:u], key, count, stamp, now + 2, slots - 1, work, b - a, out[d, 4:])


@dataclass(frozen=True)
class GopherRepetition:
    """Shares of a document in paragraphs and lines that came before, in its top 2- to 4-gram and in repeated 5- to 10-grams.

    Source: Rae et al. 2021, arXiv 2112.11446, table A1; details where the paper is silent as in Penedo et al. 2024, datatrove.
    Differs: shares of all characters; English words as spaCy splits them; n-grams are compared word by word by 64-bit hashes, so two
        that read alike when their words are joined otherwise count as different. `repetition` is this project's own, stricter count.
    Costs: words are split once for all signals of a batch that count them; two passes over words, seven over those that repeat.
    """

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """duplicate_paragraphs, duplicate_lines (shares of them), duplicate_*_characters, top_2gram .. duplicate_10gram (of all
        characters; a top n-gram counts with its spaces, and may pass 1)."""
        found = np.zeros((len(docs), len(NAMES)))
        for w in split([doc.text for doc in docs]):
            out = np.zeros((len(w.rows), len(NAMES)))
            _measure(w.codes, w.offsets, w.kind, w.first, w.spans, w.hashes, out)
            found[w.rows] = out
        return {name: found[:, k] for k, name in enumerate(NAMES)}

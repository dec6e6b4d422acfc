"""Signal `data_juicer`: what eight text filters of Data-Juicer look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.data.codes import pack
from bloomery.data.compiled import compiled
from bloomery.data.juicer import characters, repetition, words
from bloomery.data.special_characters import special_classes
from bloomery.seams import Doc, Tools

NAMES = (
    "characters", "alphanumeric", "special", "average_line", "longest_line", "words", "word_repetition", "character_repetition"
)  # fmt: skip


@compiled
def _measure(codes, offsets, kind, gram, what, out):  # type: ignore[no-untyped-def]
    longest = 64
    for d in range(len(offsets) - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    slots = 64
    while slots < longest + longest // 4:
        slots *= 2
    table, hashes, counts = np.empty(slots, np.uint64), np.empty(longest, np.uint64), np.empty(longest, np.int64)
    for d in range(len(offsets) - 1):
        text = codes[offsets[d] : offsets[d + 1]]
        if what & 1:
            characters(text, kind, out[d])
            out[d, 7] = repetition(text, gram[1], table, counts)
        if what & 6:
            n, share = words(text, kind, gram[0], hashes, table)
            out[d, 5] = n if what & 2 else out[d, 5]
            out[d, 6] = share if what & 4 else out[d, 6]


@dataclass(frozen=True)
class DataJuicer:
    """Characters, letters and digits, special characters, line lengths, words, and repeated word and character n-grams.

    Source: Chen et al. 2023, arXiv 2309.02033 (Data-Juicer), after Laurençon et al. 2022, arXiv 2303.03915 (ROOTS).
    Differs: n-grams are compared by 64-bit hashes; `special` characters are those of Data-Juicer 1.6.1 with emoji 2.2.0, fixed.
    Costs: a hash table over every character n-gram, and one over the word n-grams.
    """

    word_gram: int = 10  # words
    character_gram: int = 10  # characters

    def __post_init__(self) -> None:
        if min(self.word_gram, self.character_gram) < 1:
            raise ValueError("word_gram and character_gram must be at least 1")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """characters, alphanumeric, special (shares), average_line, longest_line (characters), words, word_repetition (share of the
        n-grams that come twice or more), character_repetition (share in the most frequent ones)."""
        found, grams = np.zeros((len(docs), len(NAMES))), (self.word_gram, self.character_gram)
        for rows, codes, offsets, _ in pack([doc.text for doc in docs]):
            ascii = codes.dtype == np.uint8
            out, kind = np.zeros((len(rows), len(NAMES))), special_classes(128 if ascii else 0x110000)
            _measure(codes, offsets, kind, grams, 7 if ascii else 3, out)
            if not ascii:  # small letters beyond ASCII may be special where the capitals are not, and the other way round
                for at, small, places, _ in pack([docs[i].text.lower() for i in rows]):
                    part = out[at]
                    _measure(small, places, special_classes(128 if small.dtype == np.uint8 else 0x110000), grams, 4, part)
                    out[at] = part
            found[rows] = out
        return {name: found[:, k] for k, name in enumerate(NAMES)}

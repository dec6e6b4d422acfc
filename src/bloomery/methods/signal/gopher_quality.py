"""Signal `gopher_quality`: whether a document looks like prose, by Gopher's counts of words and marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.data.codes import ALPHA, SPACE
from bloomery.data.compiled import compiled
from bloomery.data.english import LINE_END, MARK
from bloomery.data.words import END, split, word_hash
from bloomery.seams import Doc, Tools

NAMES = ("words", "mean_word_length", "hashes", "ellipses", "bullet_lines", "ellipsis_lines", "alphabetic_words", "stop_words")


@compiled
def _of_words(codes, kind, spans, hashes, stop_words, out):  # type: ignore[no-untyped-def]
    """Words that are not only marks, their mean length; the share of words with a letter; how many of the stop words there are."""
    words = letters = alphabetic = seen = 0
    for k in range(len(spans)):
        a, b = spans[k] >> 32, spans[k] & END
        marks, letter, i = True, False, a
        while i < b and (marks or not letter):
            marks = marks and kind[codes[i]] & MARK != 0
            letter = letter or kind[codes[i]] & ALPHA != 0
            i += 1
        if not marks:
            words += 1
            letters += b - a
        alphabetic += letter
        if b - a < 12:
            for s in range(len(stop_words)):
                if hashes[k] == stop_words[s]:
                    seen |= 1 << s
    out[0] = words
    out[1] = letters / max(1, words)
    out[6] = alphabetic / max(1, len(spans))
    while seen:
        out[7] += seen & 1
        seen >>= 1


@compiled
def _of_lines(codes, a, b, kind, words, out):  # type: ignore[no-untyped-def]
    """Hash signs and ellipses for each word; shares of the lines that begin with a bullet or end with an ellipsis."""
    signs = ellipses = lines = bullets = ends = dots = 0
    fresh, ended = True, False  # nothing but space yet in this line; its last character but space ends an ellipsis
    for i in range(a, b):
        c = codes[i]
        if c == 46:
            dots += 1
            if dots % 3 == 0:
                ellipses += 1
        else:
            dots = 0
            signs += c == 35
            ellipses += c == 0x2026
        if kind[c] & LINE_END:
            if not (c == 10 and i > a and codes[i - 1] == 13):
                lines += 1
                ends += ended
            fresh, ended = True, False
        elif not kind[c] & SPACE:
            bullets += fresh and (c == 45 or c == 0x2022)
            fresh, ended = False, dots > 2 or c == 0x2026
    if b > a and not kind[codes[b - 1]] & LINE_END:
        lines += 1
        ends += ended
    out[2], out[3] = signs / max(1, words), ellipses / max(1, words)
    out[4], out[5] = bullets / max(1, lines), ends / max(1, lines)


@compiled
def _measure(codes, offsets, kind, first, spans, hashes, stop_words, out):  # type: ignore[no-untyped-def]
    for d in range(len(offsets) - 1):
        a, b = first[d], first[d + 1]
        _of_words(codes, kind, spans[a:b], hashes[a:b], stop_words, out[d])
        _of_lines(codes, offsets[d], offsets[d + 1], kind, b - a, out[d])


@dataclass(frozen=True)
class GopherQuality:
    """Words and their mean length, hash signs, ellipses, bullet lines, words with a letter and stop words, as Gopher counts them.

    Source: Rae et al. 2021, arXiv 2112.11446, appendix A1.1; details where the paper is silent as in Penedo et al. 2024, datatrove.
    Differs: English words as spaCy splits them (data/words.py), in every language; thresholds are the recipe's
        (recipes/filters/gopher.yaml has the paper's); where there are no words or lines, shares are 0.
    Costs: words are split once for all signals of a batch that count them; then one pass over words and one over characters.
    """

    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")  # as they are written, at most 60

    def __post_init__(self) -> None:
        if len(self.stop_words) > 60 or any(len(word) > 11 for word in self.stop_words):
            raise ValueError("stop_words are at most 60 words of at most 11 characters")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """words (not only marks), mean_word_length (characters), hashes, ellipses (for each word), bullet_lines, ellipsis_lines
        (shares of lines), alphabetic_words (share), stop_words (how many of the list)."""
        found = np.zeros((len(docs), len(NAMES)))
        stop_words = np.array([word_hash(word) for word in self.stop_words], np.uint64)
        for w in split([doc.text for doc in docs]):
            out = np.zeros((len(w.rows), len(NAMES)))
            _measure(w.codes, w.offsets, w.kind, w.first, w.spans, w.hashes, stop_words, out)
            found[w.rows] = out
        return {name: found[:, k] for k, name in enumerate(NAMES)}

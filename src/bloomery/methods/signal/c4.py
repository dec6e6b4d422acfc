"""Signal `c4`: what C4's rules would leave of a document: the lines that are sentences, and what forbids the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.data.compiled import compiled
from bloomery.data.pages import line_end, needles, sentences, without_citations, words_of_line
from bloomery.data.words import room, split, tables, tokens
from bloomery.seams import Doc, Tools

NAMES = ("lines", "kept_lines", "sentences", "lorem_ipsum", "curly_bracket")


@compiled
def _measure(codes, offsets, kind, first, spans, gaps, table, trie, room, knobs, phrases, begins, out):  # type: ignore[no-untyped-def]
    longest = 1
    for d in range(len(offsets) - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    clean = np.empty(longest, codes.dtype)
    for d in range(len(offsets) - 1):
        i, end, t = offsets[d], offsets[d + 1], first[d]
        while i < end:
            a, b, i = line_end(codes, i, end, kind)
            out[d, 0] += 1
            words, widest = words_of_line(codes, a, b, kind)
            if words < knobs[0] or widest > knobs[1]:
                continue
            text, x, y = codes, a, b
            size = without_citations(codes, a, b, kind, clean)
            if size >= 0:
                text, x, y = clean, 0, size
            last = text[y - 1] if y > x else 0
            if last not in (46, 63, 33, 34, 39) or (y - x > 2 and last == 46 and text[y - 2] == 46 and text[y - 3] == 46):
                continue
            seen = needles(text, x, y, phrases, begins)
            if seen & 1:
                out[d, 3] += 1
            if seen >> 1:
                continue
            curly = False
            for k in range(x, y):
                curly = curly or text[k] == 123
            out[d, 4] += curly
            out[d, 1] += 1
            if size >= 0:
                n = tokens(clean, 0, size, kind, table, trie, room)
                out[d, 2] += sentences(clean, kind, room[0], room[2], 0, n)
            else:
                while t < first[d + 1] and spans[t] >> 32 < a:
                    t += 1
                u = t
                while u < first[d + 1] and spans[u] >> 32 < b:
                    u += 1
                out[d, 2] += sentences(codes, kind, spans, gaps, t, u)
                t = u


@dataclass(frozen=True)
class C4:
    """Lines that C4 keeps, the sentences in them, and lines with filler text or a curly bracket, for which it drops the page.

    Source: Raffel et al. 2020, arXiv 1910.10683, section 2.2; further rules of its published code as in Penedo et al. 2024, datatrove.
    Differs: measures, and drops nothing (recipes/filters/c4.yaml has the rules, the edit `boilerplate` keeps the lines alone); the list of
        bad words is the signal `toxicity`'s; sentences end at full stops, as spaCy's rule-based splitter has it, not NLTK's.
    Costs: words are split once for all signals of a batch that count them; then one pass over the characters.
    """

    words: int = 3  # words of a line at least
    longest_word: int = 1000  # characters; a line with a longer one goes
    phrases: tuple[str, ...] = (
        "javascript",
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "use of cookies",
        "use cookies",
    )  # small ASCII letters; a line with one of them goes

    def __post_init__(self) -> None:
        if not all(phrase.isascii() and phrase == phrase.lower() and phrase for phrase in self.phrases):
            raise ValueError("phrases are written in small ASCII letters")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """lines, kept_lines, sentences (in these), lorem_ipsum, curly_bracket (lines that would be kept but for it)."""
        found = np.zeros((len(docs), len(NAMES)))
        joined = [phrase.encode() for phrase in ("lorem ipsum", *self.phrases)]
        phrases = np.frombuffer(b"".join(joined), np.uint8)
        begins = np.concatenate([[0], np.cumsum([len(phrase) for phrase in joined])]).astype(np.int64)
        for w in split([doc.text for doc in docs]):
            out = np.zeros((len(w.rows), len(NAMES)))
            space = room(int(np.diff(w.offsets).max()))
            knobs = (self.words, self.longest_word)
            _measure(w.codes, w.offsets, w.kind, w.first, w.spans, w.gaps, *tables(), space, knobs, phrases, begins, out)
            found[w.rows] = out
        return {name: found[:, k] for k, name in enumerate(NAMES)}

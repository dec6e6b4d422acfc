"""Signal `redpajama`: the quality signals of RedPajama-V2 that need no model."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.seams import Doc, Tools

SENTENCE, PIECE, LINE = re.compile(r"\b[^.!?]+[.!?]*"), re.compile(r"\w+|[^\w\s]+"), re.compile(r"[^\n]*\n|[^\n]+$")
WITHOUT = str.maketrans("", "", string.punctuation)
LETTER = re.compile(r"[a-zA-Z]")
BULLETS = tuple("•‣▶◀◦■□▪▫–")
STOPS = (".", "!", "?", "”")
NAMES = (
    "sentences", "words", "mean_word_length", "symbols", "ellipsis_lines", "no_letters", "unique_words", "entropy", "capital_words",
    "lorem_ipsum", "curly_bracket", "stop_words", "terminal_lines", "javascript_lines", "short_lines", "capitals", "numerals",
    "bullet_lines", *(f"top_{n}gram" for n in (2, 3, 4)), *(f"duplicate_{n}gram" for n in range(5, 11)),
)  # fmt: skip


@dataclass(frozen=True)
class Redpajama:
    """Counts of words, sentences, symbols and lines, the entropy of words, and repeated n-grams, as RedPajama-V2 annotates them.

    P330 Weber et al. 2024, arXiv 2411.12372
    Differs: signals of a line are summed up as shares of the document's lines (javascript_lines, short_lines, terminal_lines,
        bullet_lines) or of all characters (capitals, numerals); nothing is rounded, and what has no words is 0. Its classifiers,
        perplexity and word list are the signals `classifier`, `ngram_perplexity` and `toxicity`; stop words are a knob.
    Costs: plain Python, about 2 MB/s; the compiled ones are `gopher_quality`, `gopher_repetition` and `c4`.
    """

    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")  # small letters
    short: int = 3  # words of a short line at most

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """sentences, words; mean_word_length (characters); symbols (for each word); shares of words, lines or characters; entropy (nats);
        top_2gram .. duplicate_10gram (shares of the characters of words)."""
        stop_words = frozenset(self.stop_words)
        rows = [[*self._counts(doc.text, stop_words), *_repeats(_normal(doc.text).split())] for doc in docs]
        return {name: [float(row[k]) for row in rows] for k, name in enumerate(NAMES)}

    def _counts(self, text: str, stop_words: frozenset[str]) -> list[float]:
        normal = _normal(text)
        words, pieces, lines = normal.split(), PIECE.findall(text), LINE.findall(text)
        n, raw, rows, size = max(1, len(words)), max(1, len(pieces)), max(1, len(lines)), max(1, len(text))
        counts = Counter(words)
        plain = [_normal(line) for line in lines]
        return [
            len(SENTENCE.findall(text)),
            len(words),
            sum(map(len, words)) / n,
            (text.count("#") + text.count("...") + text.count("…")) / raw,
            sum(line.rstrip().endswith(("...", "…")) for line in lines) / rows,
            sum(LETTER.search(piece) is None for piece in pieces) / raw,
            len(counts) / n,
            -math.fsum(count / n * math.log(count / n) for count in counts.values()),
            sum(map(str.isupper, pieces)) / raw,
            normal.count("lorem ipsum") / max(1, len(normal)),
            (text.count("{") + text.count("}")) / size,
            sum(piece in stop_words for piece in pieces) / raw,
            sum(line.rstrip().endswith(STOPS) for line in lines) / rows,
            sum("javascript" in line.split() for line in plain) / rows,
            sum(len(line.split()) <= self.short for line in plain) / rows,
            sum(map(str.isupper, text)) / size,
            sum(sum(map(str.isnumeric, line)) for line in plain) / max(1, sum(map(len, plain))),
            sum(line.lstrip().startswith(BULLETS) for line in lines) / rows,
        ]


def _normal(text: str) -> str:
    """Small letters, without ASCII marks, white space as single spaces, decomposed."""
    return unicodedata.normalize("NFD", " ".join(text.translate(WITHOUT).lower().split()))


def _repeats(words: list[str]) -> list[float]:
    """Shares of the characters in the top 2- to 4-gram and in 5- to 10-grams that come twice, counted once where they overlap."""
    lengths = np.array([len(word) for word in words], np.int64)
    total = max(1, int(lengths.sum()))
    found = []
    for n in range(2, 11):
        grams = list(zip(*(words[k:] for k in range(n)), strict=False))
        counts = Counter(grams)
        if n <= 4:
            gram, count = max(counts.items(), key=lambda one: one[1], default=((), 0))
            found.append(sum(map(len, gram)) * count / total if count > 1 else 0.0)
        else:
            inside = np.zeros(len(words) + 1, np.int64)
            for i, gram in enumerate(grams):
                if counts[gram] > 1:
                    inside[i] += 1
                    inside[i + n] -= 1
            found.append(float(lengths[np.cumsum(inside)[: len(words)] > 0].sum() / total))
    return found

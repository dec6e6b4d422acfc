"""World `leaks`: documents of which some hold evaluation items, in ways that are known, and all hold phrases that many texts have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from bloomery.core.rng import python_rng
from bloomery.data.worlds.language import SOUNDS
from bloomery.seams import Doc, Rng

LEAKS = ("verbatim", "spelling", "tenth", "question", "answer")  # ways in which a document holds an item
OTHERS = ("reworded", "phrases")  # the item with every third word changed; a document of its own
SMALL = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "by", "on")
VOCABULARY, PHRASES, FORMS = 3000, 80, 6
FEWEST, LONGEST = 10, 60  # words of a question; an answer has between 8 and 40


@dataclass(frozen=True)
class World:
    """`items` questions with answers, each planted once in every way of LEAKS and reworded by the first 6 x `items` documents; those after
    have phrases alone.

    Questions begin with one of FORMS forms and hold one of PHRASES phrases of 5 to 9 words, of which every document has some. A
    document's domain says in which way it holds its item, whose number is `item` in its meta (-1: none).
    """

    documents: int = 1600
    seed: int = 0
    items: int = 200
    words: int = 150  # of a document, beside what is planted

    def __post_init__(self) -> None:
        if min(self.documents, self.items, self.words) < 1:
            raise ValueError("documents, items and words must be at least 1")

    def item(self, k: int) -> tuple[str, str]:
        """Question and answer `k`."""
        draw = python_rng(Rng((self.seed, "leaks", "item", k)))
        form, phrase = draw.choice(self._phrases()[:FORMS]), draw.choice(self._phrases()[FORMS:])
        body = self._drawn(draw, draw.randint(FEWEST, LONGEST))
        at = draw.randint(0, len(body))
        question = [*form, *body[:at], *phrase, *body[at:]]
        return " ".join(question).capitalize() + "?", " ".join(self._drawn(draw, draw.randint(8, 40))).capitalize() + "."

    def domain(self, i: int) -> str:
        """The way of document `i`."""
        ways = (*LEAKS, "reworded")
        return ways[i % len(ways)] if i < self.items * len(ways) else "phrases"

    def document(self, i: int) -> Doc:
        """Document `i`."""
        draw, way = python_rng(Rng((self.seed, "leaks", i))), self.domain(i)
        parts = [" ".join(self._drawn(draw, max(1, self.words // 6))) for _ in range(6)]
        parts = [f"{part} {' '.join(draw.choice(self._phrases()))}." for part in parts]
        number = -1 if way == "phrases" else i // (len(LEAKS) + 1)
        if number >= 0:
            parts.insert(draw.randint(0, len(parts)), self._planted(way, *self.item(number), draw))
        return Doc(str(i), " ".join(parts) + "\n", {"domain": way, "package": str(i), "item": number})

    def _planted(self, way: str, question: str, answer: str, draw: Random) -> str:
        if way in ("question", "answer"):
            return question if way == "question" else answer
        words = f"{question} {answer}".split()
        if way == "spelling":
            return ",\n".join(word.strip("?.").upper() for word in words) + "!"
        every = {"tenth": 10, "reworded": 3}.get(way, 0)
        shift = draw.randrange(every) if every else 0
        return " ".join(draw.choice(_vocabulary()) if every and k % every == shift else word for k, word in enumerate(words))

    def _drawn(self, draw: Random, count: int) -> list[str]:
        """Words by a law close to Zipf's, two of five of them small ones."""
        words = _vocabulary()
        return [draw.choice(SMALL) if draw.random() < 0.4 else words[int(len(words) ** draw.random()) - 1] for _ in range(count)]

    def _phrases(self) -> tuple[tuple[str, ...], ...]:
        return _phrases(self.seed)


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[str, ...]:
    draw, (onsets, vowels, codas) = python_rng(Rng(("leaks", "words"))), SOUNDS["low"]
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        syllables = range(2 + (len(found) > VOCABULARY // 3))
        found["".join(draw.choice(onsets) + draw.choice(vowels) + draw.choice(codas) for _ in syllables)] = None
    return tuple(found)


@lru_cache(maxsize=8)
def _phrases(seed: int) -> tuple[tuple[str, ...], ...]:
    draw, words = python_rng(Rng((seed, "leaks", "phrases"))), (*_vocabulary()[:400], *SMALL * 20)
    return tuple(tuple(draw.choice(words) for _ in range(draw.randint(5, 9))) for _ in range(FORMS + PHRASES))

"""A small made-up language: words of syllables, parts of speech, topics and a handful of sentence patterns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from bloomery.core.rng import python_rng
from bloomery.seams import Rng

SOUNDS = {  # onsets, vowels and codas of a language; two that share no letter share no word
    "low": (["b", "d", "g", "k", "l", "m", "n", "p", "r", "s", "t"], ["a", "e", "i", "o", "u"], ["", "", "n", "r", "s"]),
    "high": (["c", "f", "h", "j", "q", "v", "w", "x", "z"], ["y", "ae", "oe", "ue"], ["", "", "h", "z"]),
}
WORDS = {"noun": 160, "verb": 80, "adjective": 60, "adverb": 24, "place": 24, "name": 30}
PATTERNS = (
    "the {noun} {verb} the {noun}",
    "the {adjective} {noun} {verb} the {noun} {adverb}",
    "{name} {verb} the {adjective} {noun}",
    "in the {place} the {noun} {verb} {name}",
    "{name} and {name} {verb} the {noun} in the {place}",
    "the {noun} of the {noun} {verb} {adverb}",
    "when {name} {verb} the {noun} the {adjective} {noun} {verb}",
)
SMALL = ("the", "and", "in", "of", "when")
TOPICS = 8


@dataclass(frozen=True)
class Language:
    """Words by part of speech, small words, and the patterns of its sentences."""

    words: dict[str, tuple[str, ...]]
    small: dict[str, str]  # small word of the patterns -> how this language writes it
    patterns: tuple[str, ...]

    def sentence(self, draw: Random, topic: int) -> str:
        """One sentence: in a topic its own eighth of the words comes first, and words are used the less the further down they stand."""
        made = []
        for slot in draw.choice(self.patterns).split():
            made.append(self.word(draw, topic, slot[1:-1]) if slot[0] == "{" else self.small[slot])
        return " ".join(made) + "."

    def word(self, draw: Random, topic: int, kind: str) -> str:
        """One word of a kind, by a law close to Zipf's."""
        words = self.words[kind]
        rank = int(len(words) ** draw.random()) - 1
        return words[(rank + topic * len(words) // TOPICS) % len(words)]

    def text(self, draw: Random, sentences: int) -> list[str]:
        """Sentences of one topic."""
        topic = draw.randrange(TOPICS)
        return [self.sentence(draw, topic) for _ in range(sentences)]


@lru_cache(maxsize=16)
def language(seed: int, sounds: str = "low", patterns: tuple[str, ...] = PATTERNS) -> Language:
    """The language of a seed; the same seed with other sounds has other words for the same things."""
    draw = python_rng(Rng((seed, "language", sounds)))
    onsets, vowels, codas = SOUNDS[sounds]
    used: set[str] = set()

    def coin(syllables: int) -> str:
        while True:
            word = "".join(draw.choice(onsets) + draw.choice(vowels) + draw.choice(codas) for _ in range(syllables))
            if word not in used:
                used.add(word)
                return word

    small = {word: word if sounds == "low" else coin(1) for word in SMALL}
    used.update(small.values())
    words = {kind: tuple(coin(2 + (i > count // 2)) for i in range(count)) for kind, count in WORDS.items()}
    words["name"] = tuple(word.capitalize() for word in words["name"])
    return Language(words, small, patterns)

"""World `domains`: five kinds of text with hardly a word in common, and a sixth, the target, that is made of three of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from bloomery.core.rng import python_rng
from bloomery.data.worlds.language import PATTERNS, Language, language
from bloomery.seams import Doc, Rng

PARTS = ("plain", "verse", "list", "code", "dialog")
DOMAINS = (*PARTS, "target")
TARGET = {"dialog": 0.6, "list": 0.3, "plain": 0.1}  # shares of the target's lines


@dataclass(frozen=True)
class World:
    """Documents of `lines` lines. Each of the five kinds has a language of its own; a line of the target is one of any kind in
    TARGET, so that the best mixture to train on is known, about. A package is `group` documents of a kind."""

    documents: int = 4800
    seed: int = 0
    group: int = 4  # documents of a package
    lines: int = 5  # lines of a document

    def __post_init__(self) -> None:
        if min(self.documents, self.group, self.lines) < 1:
            raise ValueError("documents, group and lines must be at least 1")

    def document(self, i: int) -> Doc:
        """Document `i`."""
        domain, draw = DOMAINS[i // self.group % len(DOMAINS)], python_rng(Rng((self.seed, "domains", i)))
        kinds = draw.choices(list(TARGET), list(TARGET.values()), k=self.lines) if domain == "target" else [domain] * self.lines
        text = "".join(line(kind, tongue(self.seed, kind), draw) + "\n" for kind in kinds)
        return Doc(str(i), text, {"domain": domain, "package": f"{domain}{i // self.group}"})


def tongue(seed: int, kind: str) -> Language:
    """The language of a kind: its own words, and its own choice of the patterns."""
    number = PARTS.index(kind)
    return language(1000 * seed + number + 1, "low" if number % 2 else "high", PATTERNS[number % 3 :: 2])


def line(kind: str, words: Language, draw: Random) -> str:
    """One line in the manner of a kind."""

    def word(slot: str) -> str:
        return words.word(draw, 0, slot)

    if kind == "plain":
        return words.sentence(draw, 0)
    if kind == "verse":
        return f"{word('adjective')} {word('noun')}, {word('adjective')} {word('noun')}, {word('adverb')}"
    if kind == "list":
        return f"- {word('noun')} ({draw.randrange(1, 100)}): {word('adjective')}"
    if kind == "code":
        return f"{word('noun')} = {word('verb')}({word('noun')}, {draw.randrange(10)})"
    return f'{word("name")}: "{words.sentence(draw, 0)}"'

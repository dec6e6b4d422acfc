"""Edit `copyright_traps`: invented sentences are planted in documents, to be asked for later."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.spans import changed
from bloomery.data.traps import demand, trap
from bloomery.seams import Doc, Drop, Rng, Tools

ENDS = re.compile(r"(?<=[.!?]) |\n")  # behind these a sentence may stand


@dataclass(frozen=True)
class CopyrightTraps:
    """Plants an invented sentence in a share of the documents, several times in each; the task `copyright_traps` asks for them.

    P379 Meeus et al. 2024, arXiv 2402.09363
    Differs: words of a trap are drawn evenly from coined ones in place of samples of a language model at some temperature, so that its
        perplexity is the size of the vocabulary; which document gets which trap depends on the key and its id alone, so no list is kept.
    Costs: one copy of a document that gets a trap, which grows by `repeats` sentences.
    """

    key: str = "traps"  # says which traps; the owner's secret, and the same in the task
    traps: int = 50  # different ones
    words: int = 25  # of a trap
    vocabulary: int = 2000  # different words that traps are made of: the perplexity of a word
    share: float = 0.1  # of the documents, each of which gets one trap
    repeats: int = 10  # how often a trap stands in a document

    def __post_init__(self) -> None:
        demand(self.traps, self.words, self.vocabulary)
        if not 0 <= self.share <= 1 or self.repeats < 1:
            raise ValueError("share must be from 0 to 1, and repeats at least 1")

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself, or one with its trap behind sentences or lines of it, or at its end where it has none."""
        draw = python_rng(Rng(("copyright traps", self.key, doc.id)))
        if not doc.text or draw.random() >= self.share:
            return [doc]
        sentence = trap(self.key, draw.randrange(self.traps), self.words, self.vocabulary)
        ends = [found.end() for found in ENDS.finditer(doc.text)] or [len(doc.text)]
        places = sorted(draw.choice(ends) for _ in range(self.repeats))
        bare = len(doc.text) if not doc.text.endswith("\n") else -1  # a last line without its end
        return [changed(doc, [(at, at, f"\n{sentence}" if at == bare else f"{sentence}\n") for at in places])]

"""World `lengths`: documents from a line to several pages, each about a cast of its own whom only its beginning introduces."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from bloomery.core.rng import python_rng
from bloomery.data.worlds.language import language
from bloomery.seams import Doc, Rng

DOMAINS = {"short": 128, "middle": 512, "long": 1 << 62}  # bytes below which a document is of a kind
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class World:
    """Sizes are spread evenly by their logarithm from `shortest` to `longest`. The names in a document are made up for it, so that they
    are known only to who has read from its start."""

    documents: int = 3000
    seed: int = 0
    shortest: int = 24  # bytes of the shortest documents, about
    longest: int = 2048  # bytes of the longest, about
    cast: int = 3  # names of a document

    def __post_init__(self) -> None:
        if min(self.documents, self.shortest, self.cast) < 1 or self.longest < self.shortest:
            raise ValueError("documents, shortest and cast must be at least 1, longest at least shortest")

    def document(self, i: int) -> Doc:
        """Document `i`; each is a package of its own."""
        draw = python_rng(Rng((self.seed, "lengths", i)))
        size = self.shortest * (self.longest / self.shortest) ** draw.random()
        topic, words = draw.randrange(8), language(self.seed)
        names = ["".join(draw.choices(LETTERS, k=6)).capitalize() for _ in range(self.cast)]
        text = f"{' and '.join(names)}.\n"
        while len(text) < size:
            text += self.renamed(words.sentence(draw, topic), names, draw) + "\n"
        domain = next(name for name, edge in DOMAINS.items() if len(text) < edge)
        return Doc(str(i), text, {"domain": domain, "package": f"{domain}{i}"})

    def renamed(self, sentence: str, names: list[str], draw: Random) -> str:
        """A sentence with every name, which is what begins with a capital, replaced by one of the cast."""
        words = [word if word.islower() else draw.choice(names) + ("." if word.endswith(".") else "") for word in sentence.split()]
        return " ".join(words)

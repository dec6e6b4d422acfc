"""World `skills`: five skills, some of which are made of others, for curricula that follow what has been learned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from bloomery.core.rng import python_rng
from bloomery.seams import Doc, Rng

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DOMAINS = ("count", "copy", "map", "translate", "twice")
GRAPH = {"copy": {"translate": 0.5}, "map": {"translate": 0.5}, "translate": {"twice": 0.5}}  # skill -> what it helps, and how much


@dataclass(frozen=True)
class World:
    """Lines of one skill a document, about a fixed secret permutation f of the letters.

    count: numbers in a row. copy: `abc=abc`. map: `a>f(a)`. translate: `abc>f(a)f(b)f(c)`, which is copying and mapping at once.
    twice: `abc:f(f(a))...`, which is translating two times.
    """

    documents: int = 5000
    seed: int = 0
    group: int = 4  # documents of a package
    size: int = 96  # bytes of a document, about
    longest: int = 6  # letters of a word

    def __post_init__(self) -> None:
        if min(self.documents, self.group, self.size) < 1 or self.longest < 2:
            raise ValueError("documents, group and size must be at least 1 and longest at least 2")

    @property
    def secret(self) -> dict[str, str]:
        """The permutation f."""
        return dict(zip(LETTERS, _secret(self.seed), strict=True))

    def document(self, i: int) -> Doc:
        """Document `i`."""
        domain, draw, text = DOMAINS[i // self.group % len(DOMAINS)], python_rng(Rng((self.seed, "skills", i))), ""
        while len(text) < self.size:
            question, answer = self.problem(domain, draw)
            text += f"{question}{answer}\n"
        return Doc(str(i), text, {"domain": domain, "package": f"{domain}{i // self.group}"})

    def problem(self, domain: str, draw: Random) -> tuple[str, str]:
        """A question, with the sign that ends it, and its answer."""
        f = self.secret
        if domain == "count":
            first = draw.randrange(9000)
            return f"{first} ", " ".join(str(first + k) for k in (1, 2, 3))
        word = "".join(draw.choices(LETTERS, k=1 if domain == "map" else draw.randint(2, self.longest)))
        once = "".join(f[letter] for letter in word)
        return {
            "copy": (f"{word}=", word),
            "map": (f"{word}>", once),
            "translate": (f"{word}>", once),
            "twice": (f"{word}:", "".join(f[letter] for letter in once)),
        }[domain]


@lru_cache(maxsize=8)
def _secret(seed: int) -> tuple[str, ...]:
    letters = list(LETTERS)
    python_rng(Rng((seed, "skills", "secret"))).shuffle(letters)
    return tuple(letters)

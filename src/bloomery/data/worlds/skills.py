"""World `skills`: five skills, some of which are made of others, for curricula that follow what has been learned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from bloomery.core.rng import python_rng
from bloomery.seams import Doc, Rng

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DOMAINS = ("follow", "copy", "map", "translate", "twice")
GRAPH = {"copy": {"translate": 0.5}, "map": {"translate": 0.5}, "translate": {"twice": 0.5}}  # skill -> what it helps, and how much


@dataclass(frozen=True)
class World:
    """Lines of one skill a document, about a fixed secret permutation f of the letters.

    follow: letters in the order of the alphabet, `c<def`. copy: `abc=abc`. map: `a>f(a)`. translate: `abc>f(a)f(b)f(c)`, which is
    copying and mapping at once. twice: `abc:f(f(a))...`, which is translating two times.
    """

    documents: int = 5000
    seed: int = 0
    group: int = 4  # documents of a package
    size: int = 96  # bytes of a document, about
    letters: int = 16  # letters in use
    word: int = 3  # letters of a word

    def __post_init__(self) -> None:
        if min(self.documents, self.group, self.size, self.word) < 1 or not 4 <= self.letters <= 26:
            raise ValueError("documents, group, size and word must be at least 1 and letters from 4 to 26")

    @property
    def secret(self) -> dict[str, str]:
        """The permutation f."""
        return dict(zip(LETTERS, _secret(self.letters, self.seed), strict=False))

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
        if domain == "follow":
            first = draw.randrange(self.letters)
            return f"{LETTERS[first]}<", "".join(LETTERS[(first + k) % self.letters] for k in range(1, self.word + 1))
        word = "".join(draw.choices(LETTERS[: self.letters], k=1 if domain == "map" else self.word))
        once = "".join(f[letter] for letter in word)
        return {
            "copy": (f"{word}=", word),
            "map": (f"{word}>", once),
            "translate": (f"{word}>", once),
            "twice": (f"{word}:", "".join(f[letter] for letter in once)),
        }[domain]


@lru_cache(maxsize=8)
def _secret(count: int, seed: int) -> tuple[str, ...]:
    letters = list(LETTERS[:count])
    python_rng(Rng((seed, "skills", "secret"))).shuffle(letters)
    return tuple(letters)

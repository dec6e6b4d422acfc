"""World `noisy`: clean text beside four kinds of bad documents, of which it is known what a perfect cleaner would leave."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from bloomery.core.rng import python_rng
from bloomery.data.worlds.language import language
from bloomery.seams import Doc, Rng

KINDS = ("boilerplate", "junk", "repeated", "corrupted")
DOMAINS = ("clean", *KINDS)
BOILERPLATE = (
    "Click here to read more",
    "Share this page with your friends",
    "All rights reserved. Terms of use",
    "Subscribe to our newsletter today!!!",
    "Home | About | Contact | Help",
    "Accept all cookies to continue",
    "You may also like: top ten offers",
    "Loading comments, please wait ...",
)
JUNK = "0123456789#%&/()=?*+;:_<>qxzjkvw"


@dataclass(frozen=True)
class World:
    """Documents of `sentences` lines. boilerplate: planted lines among the clean ones. junk: no words at all. repeated: one of `bases`
    texts with a few words changed. corrupted: letters swapped within words.

    A document's meta holds `clean`, the text that a perfect cleaner would leave ("" where it would drop the document), and `lines`,
    whether each line of the text is to stay.
    """

    documents: int = 4000
    seed: int = 0
    group: int = 4  # documents of a package
    sentences: int = 6  # clean lines of a document
    noise: float = 0.5  # share of the packages that are bad
    bases: int = 12  # texts that are repeated
    changed: float = 0.05  # share of the words of a repeated text that are replaced
    swapped: float = 0.4  # share of the words of a corrupted text in which letters are swapped

    def __post_init__(self) -> None:
        if min(self.documents, self.group, self.sentences, self.bases) < 1 or not 0 <= self.noise <= 1:
            raise ValueError("documents, group, sentences and bases must be at least 1, noise from 0 to 1")

    def domain(self, i: int) -> str:
        """The kind of document `i`; a package has one."""
        draw = python_rng(Rng((self.seed, "noisy", "package", i // self.group)))
        return draw.choice(KINDS) if draw.random() < self.noise else "clean"

    def document(self, i: int) -> Doc:
        """Document `i`, with its truth."""
        domain, draw = self.domain(i), python_rng(Rng((self.seed, "noisy", i)))
        made = getattr(self, f"_{domain}")(draw)
        keep = [line is not None for _, line in made]
        clean = "".join(f"{line}\n" for _, line in made if line is not None)
        text = "".join(f"{line}\n" for line, _ in made)
        return Doc(str(i), text, {"domain": domain, "package": f"{domain}{i // self.group}", "clean": clean, "lines": keep})

    def _clean(self, draw: Random) -> list[tuple[str, str | None]]:
        return [(line, line) for line in language(self.seed).text(draw, self.sentences)]

    def _boilerplate(self, draw: Random) -> list[tuple[str, str | None]]:
        made = self._clean(draw)
        for _ in range(max(1, self.sentences // 2)):
            made.insert(draw.randint(0, len(made)), (draw.choice(BOILERPLATE), None))
        return made

    def _junk(self, draw: Random) -> list[tuple[str, str | None]]:
        return [("".join(draw.choices(JUNK, k=draw.randint(10, 50))), None) for _ in range(self.sentences)]

    def _repeated(self, draw: Random) -> list[tuple[str, str | None]]:
        base = self._clean(python_rng(Rng((self.seed, "noisy", "base", draw.randrange(self.bases)))))
        nouns = language(self.seed).words["noun"]
        swap = [
            " ".join(draw.choice(nouns) if draw.random() < self.changed else word for word in line[:-1].split()) + "." for line, _ in base
        ]
        return [(line, None) for line in swap]

    def _corrupted(self, draw: Random) -> list[tuple[str, str | None]]:
        return [(" ".join(self._mangled(word, draw) for word in line.split()), line) for line, _ in self._clean(draw)]

    def _mangled(self, word: str, draw: Random) -> str:
        if draw.random() >= self.swapped:
            return word
        letters = list(word)
        draw.shuffle(letters)
        return "".join(letters)

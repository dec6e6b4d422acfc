"""World `twins`: one language in two vocabularies, so that every word of one has its word in the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bloomery.core.rng import python_rng
from bloomery.data.worlds.language import SMALL, language
from bloomery.seams import Doc, Rng

SOUNDS = {"a": "low", "b": "high"}
APART = 1 << 30  # where the texts of b begin that are no translations


@dataclass(frozen=True)
class World:
    """Documents of `sentences` sentences in language a, b or both in turn; patterns and topics are the same, only words differ.

    With `parallel` the documents of b say what those of a say, else each language has texts of its own.
    """

    documents: int = 4000
    seed: int = 0
    group: int = 4  # documents of a package
    sentences: int = 5  # of a document
    language: Literal["a", "b", "both"] = "both"
    parallel: bool = False  # texts of b are translations of those of a

    def __post_init__(self) -> None:
        if min(self.documents, self.group, self.sentences) < 1 or self.language not in ("a", "b", "both"):
            raise ValueError("documents, group and sentences must be at least 1, language must be a, b or both")

    def place(self, i: int) -> tuple[str, int]:
        """The language of document `i` and its number within it."""
        if self.language != "both":
            return self.language, i
        package, within = divmod(i, self.group)
        return "ab"[package % 2], package // 2 * self.group + within

    def document(self, i: int) -> Doc:
        """Document `i`."""
        name, number = self.place(i)
        text = " ".join(self.text(name, number)) + "\n"
        return Doc(str(i), text, {"domain": name, "package": f"{name}{number // self.group}"})

    def text(self, name: str, number: int) -> list[str]:
        """The sentences of text `number` of a language."""
        draw = python_rng(Rng((self.seed, "twins", number + (APART if name == "b" and not self.parallel else 0))))
        return language(self.seed, SOUNDS[name]).text(draw, self.sentences)

    def dictionary(self) -> dict[str, str]:
        """Every word of a and its word of b."""
        a, b = (language(self.seed, SOUNDS[name]) for name in "ab")
        pairs = {a.small[word]: b.small[word] for word in SMALL}
        return pairs | {word: other for kind in a.words for word, other in zip(a.words[kind], b.words[kind], strict=True)}

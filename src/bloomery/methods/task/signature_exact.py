"""Whether a model derives a function's exact signature from its docstring."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.excerpts import asked
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class SignatureExact:
    """Share of answers whose first statement is exactly the signature that the docstring belongs to.

    Source: standard practice.
    Differs: spaces at line ends and doubled spaces do not count, every other character does: names, order, defaults, annotations.
    Costs: `count` answers of at most `limit` tokens.
    """

    count: int = 96  # conversations
    limit: int = 48  # tokens of a signature at most
    kind: str = "signature"  # kind of conversation that asks for one
    subject = "model"
    metrics = {"signature_exact": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 1 or self.limit < 4:
            raise ValueError("count must be at least 1 and limit at least 4")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The first `count` conversations in seeded order whose answer fits `limit`, and with it the context."""
        left = self.count
        for doc, size in asked(source, (self.kind,), len(source.chats), self.limit, rng):
            if left and size <= self.limit:
                left -= 1
                about = {"group": str(doc.meta.get("package") or doc.id), "kind": self.kind}
                yield Item(doc.id, doc.meta["plain"], "generate", doc.text, self.limit, messages=doc.meta["messages"], **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 for an exact match, else 0; part `name` says whether the function's name was right."""
        said, wanted = signature(episode.text), signature(item.target)
        return Grade(float(said == wanted), {"name": float(said.partition("(")[0] == wanted.partition("(")[0])})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share of exact matches, with an interval clustered by group."""
        return share([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("signature_exact")


def signature(text: str) -> str:
    """The first line that is not blank, with single spaces."""
    return re.sub(r"\s+", " ", next((line for line in text.split("\n") if line.strip()), "")).strip()

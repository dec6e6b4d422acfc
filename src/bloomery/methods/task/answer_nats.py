"""How likely a model finds the answers of held-out conversations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.excerpts import asked
from bloomery.num.statistics import paired, ratio
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]


@dataclass(frozen=True)
class AnswerNats:
    """Negative log-likelihood of the answers of held-out conversations, in nats per token of the answer.

    Source: standard practice.
    Differs: the end of an answer is left out, and every model's nats are divided by the tokens of the answer encoded alone, so that a
        model asked in plain text, where answers have no end, compares on the same footing.
    Costs: one forward pass over the conversations.
    """

    count: int = 300  # conversations at most
    kinds: tuple[str, ...] = ()  # kinds of conversations, each with a figure of its own besides; none: all together alone
    subject = "model"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")

    @property
    def metrics(self) -> dict[str, tuple[str, str]]:
        """metric: unit, which way is better"""
        return dict.fromkeys(("answer_nats", *(f"answer_nats_{kind}" for kind in self.kinds)), ("nats/token", "lower"))

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The first `count` conversations in seeded order that fit the model's context."""
        for doc, size in asked(source, self.kinds, self.count, 0, rng):
            about = {"limit": size, "group": str(doc.meta.get("package") or doc.id), "kind": str(doc.meta.get("kind", ""))}
            yield Item(doc.id, doc.meta["plain"], "score", doc.text, messages=doc.meta["messages"], **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = nats per token of this answer; parts nats and tokens, which add up over conversations."""
        nats = -math.fsum(episode.logp)
        return Grade(nats / item.limit, {"nats": nats, "tokens": float(item.limit)})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """All nats over all tokens, and the same of each kind, with intervals clustered by group."""
        found: dict[str, float] = {}
        for name, chosen in self._parts(rows):
            nats, tokens = ([grade.parts[part] for _, _, grade in chosen] for part in ("nats", "tokens"))
            found |= ratio(nats, tokens, [item.group for item, _, _ in chosen], rng).named(name)
        return found

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of the same figures."""
        found: dict[str, float] = {}
        for (name, mine), (_, theirs) in zip(self._parts(rows), self._parts(others), strict=True):
            nats = [[grade.parts["nats"] for _, _, grade in one] for one in (mine, theirs)]
            tokens = [grade.parts["tokens"] for _, _, grade in mine]
            found |= paired(*nats, tokens, [item.group for item, _, _ in mine], rng).named(name)
        return found

    def _parts(self, rows: Rows) -> Iterator[tuple[str, Rows]]:
        """All rows, then those of each kind that has some."""
        yield "answer_nats", rows
        for kind in self.kinds:
            chosen = [row for row in rows if row[0].kind == kind]
            if chosen:
                yield f"answer_nats_{kind}", chosen

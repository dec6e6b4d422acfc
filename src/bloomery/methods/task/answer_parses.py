"""Whether the function bodies that a model answers with are Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.excerpts import asked
from bloomery.data.python_text import goes_on
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class AnswerParses:
    """Share of answers that parse as Python below the signature and docstring they were asked for.

    Source: standard practice.
    Differs: parsed by the running interpreter's `ast`, never executed. An answer cut by the token limit may lose trailing lines, as
        long as `keep` of its lines that are not blank (and at least one) remain; the real body is graded alike, cut at the same
        number of tokens.
    Costs: `count` answers of `limit` tokens.
    """

    count: int = 64  # conversations
    limit: int = 96  # tokens of an answer at most
    keep: float = 0.5  # share of an answer's lines that must parse
    kind: str = "body"  # kind of conversation whose `plain` text goes on as the answer
    subject = "model"
    metrics = {"answer_parses": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.limit) < 1:
            raise ValueError("count and limit must be at least 1")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1, got {self.keep}")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """The first `count` conversations in seeded order whose question leaves `limit` tokens of the context."""
        for doc, _ in asked(source, (self.kind,), self.count, self.limit, rng):
            target = source.tokenizer.decode(source.tokenizer.encode(doc.text)[: self.limit])
            about = {"group": str(doc.meta.get("package") or doc.id), "kind": self.kind}
            yield Item(doc.id, doc.meta["plain"], "generate", target, self.limit, messages=doc.meta["messages"], **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where question and answer parse together, else 0; part `real` says the same of the real body."""
        score = goes_on(item.prompt, episode.text.removeprefix("\n"), episode.ended == "stop", self.keep)
        real = goes_on(item.prompt, item.target, True, self.keep) or goes_on(item.prompt, item.target, False, self.keep)
        return Grade(float(score), {"real": float(real)})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The model's share and that of real bodies, with intervals clustered by group."""
        groups = [item.group for item, _, _ in rows]
        model = share([grade.score for _, _, grade in rows], groups, rng)
        return model.named("answer_parses") | share([grade.parts["real"] for _, _, grade in rows], groups, rng).named(
            "answer_parses@reference text"
        )

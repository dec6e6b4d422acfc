"""Task `variable_tracking`: which names have a value, through a chain of assignments hidden in a long text."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.haystack import budget_of, hidden
from bloomery.num.statistics import mean
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

FORM = "{text}\n\nQuestion: Which names have the value {value}?\nAnswer: The names with the value {value} are"


@dataclass(frozen=True)
class VariableTracking:
    """Share of the names that a model finds which have a value by a chain of assignments, spread over a long text.

    Source: Hsieh et al. 2024, arXiv 2404.06654 (RULER)
    Differs: the text around is generated and counted in the model's own tokens; names are three capitals; a name that does not belong
        to the chain costs as much as one that is missing: the score is the overlap of the names said with those wanted, over both.
    Costs: one reading of a full context for each item.
    """

    count: int = 20  # items
    hops: int = 3  # assignments of one name to the next
    chains: int = 2  # chains of other values in the text, the one asked for among them
    tokens: int = 0  # of question and text together; 0: as many as the context holds
    subject = "model"
    metrics = {"variables_found": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.hops, self.chains) < 1 or self.tokens < 0 or self.chains > 20 or self.hops > 20:
            raise ValueError("count must be at least 1, hops and chains 1 to 20 and tokens at least 0")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """`count` texts with the links of each chain in order, at depths that are drawn. None where a context is too short."""
        for i in range(self.count):
            draw = python_rng(rng.child("chains", i))
            values = draw.sample(range(10000, 100000), self.chains)
            names = ["".join(draw.choices(string.ascii_uppercase, k=3)) for _ in range(4 * self.chains * (self.hops + 1))]
            names = list(dict.fromkeys(names))[: self.chains * (self.hops + 1)]
            planted, chains = [], [names[k :: self.chains] for k in range(self.chains)]
            for value, chain in zip(values, chains, strict=True):
                links = [f"Set {chain[0]} to {value}.", *(f"Set {new} to {old}." for old, new in itertools.pairwise(chain))]
                planted += zip(sorted(draw.random() for _ in links), links, strict=True)
            limit = len(source.tokenizer.encode(" " + ", ".join(chains[0]))) + 8
            frame = FORM.replace("{value}", str(values[0]))
            room = budget_of(source, self.tokens, len(source.tokenizer.encode(frame)) + limit)
            if room < sum(len(source.tokenizer.encode(f" {sentence}")) for _, sentence in planted):
                return
            prompt = frame.replace("{text}", hidden(source.tokenizer, planted, room, rng.child("text", i)))
            yield Item(f"{i}", prompt, "generate", ", ".join(chains[0]), limit, ("\n",), group=f"{i}")

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = names both said and wanted over names said or wanted; part `all` whether they are the same."""
        said, wanted = (set(re.findall(r"\b[A-Z]{3}\b", text)) for text in (episode.text, item.target))
        return Grade(len(said & wanted) / len(said | wanted), {"all": float(said == wanted)})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The mean score, with an interval over items."""
        return mean([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("variables_found")

"""Task `needle`: a number hidden in a long text is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.haystack import budget_of, hidden
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

PLACES = ("lisbon", "oslo", "cairo", "quito", "perth", "dakar", "delhi", "tokyo", "turin", "ghent", "lagos", "minsk", "sofia", "tunis")
FORM = "{text}\n\nQuestion: Which code belongs to {key}?\nAnswer: The code that belongs to {key} is"


@dataclass(frozen=True)
class Needle:
    """Share of codes that a model finds again in a long text, at all depths; with several keys only one of them is asked for.

    Source: Hsieh et al. 2024, arXiv 2404.06654 (RULER), which grew out of the needle test of Kamradt 2023.
    Differs: the text around is generated, sentences without numbers, and its length is counted in the model's own tokens; depths are
        spread evenly over the items; a code counts where it stands in the reply as a number of its own.
    Costs: one reading of a full context for each item.
    """

    count: int = 30  # items, at depths from the beginning to the end
    keys: int = 1  # codes in a text, of different places
    tokens: int = 0  # of question and text together; 0: as many as the context holds
    digits: int = 6  # of a code
    subject = "model"
    metrics = {"needle_found": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 1 or not 1 <= self.keys <= len(PLACES) or self.tokens < 0 or not 2 <= self.digits <= 12:
            raise ValueError(f"count must be at least 1, keys 1 to {len(PLACES)}, tokens at least 0 and digits 2 to 12")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """`count` texts; the place asked for lies at depth i / (count - 1), the others anywhere. None where a context is too short."""
        for i in range(self.count):
            draw = python_rng(rng.child("codes", i))
            places = draw.sample(PLACES, self.keys)
            codes = draw.sample(range(10 ** (self.digits - 1), 10**self.digits), self.keys)
            depths = [i / max(1, self.count - 1), *(draw.random() for _ in places[1:])]
            planted = [(depth, f"The code of {place} is {code}.") for depth, place, code in zip(depths, places, codes, strict=True)]
            limit = len(source.tokenizer.encode(f" {codes[0]}.")) + 4
            frame = FORM.replace("{key}", places[0])
            room = budget_of(source, self.tokens, len(source.tokenizer.encode(frame)) + limit)
            if room < sum(len(source.tokenizer.encode(f" {sentence}")) for _, sentence in planted):
                return
            prompt = frame.replace("{text}", hidden(source.tokenizer, planted, room, rng.child("text", i)))
            yield Item(f"{i}", prompt, "generate", str(codes[0]), limit, ("\n",), group=f"{i}", kind=f"depth {depths[0]:.2f}")

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the code stands in the reply, else 0."""
        return Grade(float(item.target in re.findall(r"\d+", episode.text)))

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share found, with an interval over items."""
        return share([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("needle_found")

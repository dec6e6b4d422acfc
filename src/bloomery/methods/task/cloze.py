"""Task `cloze`: whether a model goes on with the words that are missing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.questions import asked, fields_of, filled, group_of
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class Cloze:
    """Share of texts whose end a model writes exactly, with a word's end after it.

    Source: the measure is that of Paperno et al. 2016, arXiv 1606.06031 (LAMBADA).
    Differs: texts are JSON lines of one's own with a context and the words that follow it; spaces around them and capitals do not
        count; words are compared, so that an answer cut into other tokens than usual counts all the same.
    Costs: one completion of as many tokens as the answer has, and two, for each row.
    """

    file: str = ""  # of the questions' folder, without .jsonl; empty: those whose rows have the fields
    form: str = "{context}"  # the text before the gap, with the row's fields in braces
    answer: str = "ending"  # the field with the missing words, or a list of those that count
    count: int = 0  # rows at most; 0: all
    subject = "model"
    metrics = {"cloze_exact": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count must be at least 0, got {self.count}")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each row; the text ends before the space, where tokens break. BadInput for an ending without a word."""
        for key, row in asked(source, self.file, (*fields_of(self.form), self.answer), self.count):
            said = row[self.answer]
            answers = [" ".join(str(one).split()) for one in (said if isinstance(said, list) else [said])]
            if not any(map(words, answers)):
                raise BadInput(f"questions: {key}: {self.answer} holds no word; mend the row or leave it out")
            limit = max(len(source.tokenizer.encode(f" {one}")) for one in answers) + 2
            yield Item(key, filled(self.form, row).rstrip(), "generate", "\n".join(answers), limit, ("\n",), group=group_of(row, key))

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the reply begins with an answer's words, else 0."""
        said = words(episode.text)
        return Grade(float(any(said[: len(one)] == one for one in map(words, item.target.split("\n")) if one)))

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share of exact endings, with an interval clustered by group."""
        return share([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("cloze_exact")


def words(text: str) -> list[str]:
    """Words in small letters, and marks one by one, in one form of Unicode."""
    return re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFC", text.casefold()))

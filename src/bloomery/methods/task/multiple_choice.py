"""Task `multiple_choice`: which of several given answers a model finds likeliest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.questions import Row, asked, fields_of, filled, group_of
from bloomery.num.changes import mean_change
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]
WAYS = {"choice_accuracy": "logp", "choice_accuracy_by_length": "per_byte"}  # metric: the part of a grade that is largest


@dataclass(frozen=True)
class MultipleChoice:
    """Share of questions whose right answer is the likeliest of those given, as a whole and per byte of its text.

    Source: standard practice; the two ways of counting are those of Gao et al. 2024, doi 10.5281/zenodo.12608602 (acc, acc_norm).
    Differs: question and answer are encoded apart, so that tokens break between them, and a space before each answer is its own, which
        its length does not count; length is in bytes (acc_bytes there), which is that in characters for ASCII; of equally likely
        answers the first counts. Rows are JSON lines with a question, a list of choices, and the right one's number or
        text.
    Costs: one forward pass over each question with each of its answers.
    """

    file: str = ""  # of the questions' folder, without .jsonl; empty: those whose rows have the fields
    form: str = "{question}\nAnswer:"  # what is asked, with the row's fields in braces
    choices: str = "choices"  # the field that lists the answers
    answer: str = "answer"  # the field with the right one: its number from 0, or its text
    count: int = 0  # questions at most; 0: all
    subject = "model"
    metrics = {
        "choice_accuracy": ("share", "higher"),
        "choice_accuracy_by_length": ("share", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count must be at least 0, got {self.count}")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each answer of each question, the right one of the kind `right`."""
        for key, row in asked(source, self.file, (*fields_of(self.form), self.choices, self.answer), self.count):
            right, prompt = self._right(key, row), filled(self.form, row)
            for k, choice in enumerate(row[self.choices]):
                kind = "right" if k == right else "wrong"
                yield Item(f"{key}/{k}", prompt, "score", f" {str(choice).lstrip()}", group=group_of(row, key), kind=kind, question=key)

    def _right(self, key: str, row: Row) -> int:
        """The number of the right answer."""
        said, choices = row[self.answer], row[self.choices]
        if isinstance(choices, list) and len(choices) > 1:
            if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < len(choices):
                if said in choices and choices.index(said) != said:
                    raise BadInput(f"questions: {key}: {self.answer} {said} may be a number from 0 or a choice; write the choices as text")
                return said
            if said in choices:
                return choices.index(said)
        raise BadInput(
            f"questions: {key}: {self.answer} {said!r} is none of its {self.choices}, nor the number of one from 0; mend the row"
        )

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score = log-probability of the answer without the document's end, in nats; part per_byte is the same over its bytes."""
        logp = math.fsum(episode.logp[:-1])
        size = max(1, len(item.target.removeprefix(" ").encode()))
        parts = {"logp": logp, "per_byte": logp / size, "nats": -math.fsum(episode.logp), "right": float(item.kind == "right")}
        return Grade(logp, parts)

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """Both shares over the questions of which every answer is there, with intervals clustered by group."""
        found: dict[str, float] = {}
        for metric, part in WAYS.items():
            values, groups = chosen(rows, part)
            if values:
                found |= share(values, groups, rng).named(metric)
        return found

    def rights(self, rows: Rows) -> tuple[list[float], list[str]]:
        """Whether the likeliest answer of each question is the right one, and its group."""
        return chosen(rows, WAYS["choice_accuracy"])

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of both shares, question by question."""
        found: dict[str, float] = {}
        for metric, part in WAYS.items():
            (mine, groups), (theirs, _) = chosen(rows, part), chosen(others, part)
            if mine:
                found |= mean_change(mine, theirs, groups, rng).named(metric)
        return found


def chosen(rows: Rows, part: str) -> tuple[list[float], list[str]]:
    """For every question whether the right answer has the largest part, and its group; a question without its right answer says nothing."""
    by_question: dict[str, list[tuple[Item, Grade]]] = {}
    for item, _, grade in rows:
        by_question.setdefault(item.id.rpartition("/")[0], []).append((item, grade))
    whole = [answers for answers in by_question.values() if sum(grade.parts["right"] for _, grade in answers) == 1 and len(answers) > 1]
    values = [max(answers, key=lambda one: one[1].parts[part])[1].parts["right"] for answers in whole]
    return values, [answers[0][0].group for answers in whole]

"""The engine that rollouts are handed: a model that answers each item once or many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bloomery.infer.answers import Examinee
from bloomery.seams import Episode, Filter, Item, Rng


class Sampler:
    """seams.Engine over an examinee; `rows` completions are written side by side, sampled as `filters` say.

    `read` tells of every item asked how many tokens of its prompt were read, how many at its beginning did not fit;
    `thoughts` of every episode how many tokens its reasoning trace had.
    """

    def __init__(self, examinee: Examinee, filters: Sequence[Filter], rows: int = 32) -> None:
        self.examinee, self.filters, self.rows = examinee, filters, rows
        self.read: dict[str, tuple[int, int]] = {}
        self.thoughts: dict[str, int] = {}

    def sample(self, items: Sequence[Item], n: int, rng: Rng) -> list[list[Episode]]:
        """`n` episodes of each item that is to be completed, one of each that is scored, in order."""
        counts = [n if item.want == "generate" else 1 for item in items]
        asked = [item for item, count in zip(items, counts, strict=True) for _ in range(count)]
        answers = self.examinee.answers(asked, self.filters, rng, self.rows, True)
        found, at = [], 0
        for item, count in zip(items, counts, strict=True):
            mine = answers[at : at + count]
            at += count
            self.read[item.id] = mine[0].prompt_tokens, mine[0].dropped
            found.append([mine[0].episode] if count == 1 else [replace(a.episode, id=f"{item.id}#{k}") for k, a in enumerate(mine)])
            self.thoughts |= {episode.id: a.thought for episode, a in zip(found[-1], mine, strict=True)}
        return found

"""Task `humaneval`: functions completed from their docstrings, judged by running tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.calls import passes
from bloomery.data.questions import asked, group_of
from bloomery.num.statistics import mean
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class Humaneval:
    """Share of functions whose completed body passes the tests that come with them.

    Source: Chen et al. 2021, arXiv 2107.03374
    Differs: rows of the same form are read from a local file (prompt, test, entry_point); programs run in bloomery's sandbox, and a
        program that ends early passes nothing. One completion an item: pass@1, or, under a rollout of several, whether any passes.
    Costs: one completion and one run in the sandbox for each row.
    """

    file: str = ""  # of the questions' folder, without .jsonl; empty: those whose rows have the fields
    count: int = 0  # rows at most; 0: all
    limit: int = 384  # tokens of a completion at most
    limit_s: float = 5.0  # seconds that a program has
    subject = "model"
    needs = ("run",)
    metrics = {"humaneval_solved": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.limit < 1 or not self.limit_s > 0:
            raise ValueError("count must be at least 0, limit at least 1 and limit_s above 0")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each row; a completion ends where the next piece of top-level code begins."""
        stops = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(")
        for key, row in asked(source, self.file, ("prompt", "test", "entry_point"), self.count):
            about = {"group": group_of(row, key), "kind": "program", "tests": f"{row['test']}\ncheck({row['entry_point']})\n"}
            yield Item(key, str(row["prompt"]).rstrip(), "generate", str(row.get("canonical_solution", "")), self.limit, stops, **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where all tests pass, else 0. BadInput without tools."""
        if tools is None:
            raise BadInput("programs are graded by running them, and no tools are at hand; grade them through an evaluate step")
        return Grade(float(passes(f"{item.prompt}{episode.text}", item.tests, item.id, tools, self.limit_s)))

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share solved, with an interval clustered by group."""
        return mean([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("humaneval_solved")

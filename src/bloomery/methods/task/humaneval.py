"""Task `humaneval`: functions completed from their docstrings, judged by running tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.calls import passes, sandboxed
from bloomery.data.python_text import parsed
from bloomery.data.questions import asked, group_of
from bloomery.num.pass_at import counted, demand, tries
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools


@dataclass(frozen=True)
class Humaneval:
    """Share of functions whose completed body passes the tests that come with them.

    Source: Chen et al. 2021, arXiv 2107.03374
    Differs: rows of the same form are read from a local file (prompt, test, entry_point); tests call the
        program from a process of their own, out of its reach, where a result that is no plain value equals nothing. Under a rollout of
        several completions a sample counts where any of them passes.
    Costs: `samples` completions for each row, each run once in the sandbox.
    """

    file: str = ""  # of the questions' folder, without .jsonl; empty: those whose rows have the fields
    count: int = 0  # rows at most; 0: all
    limit: int = 384  # tokens of a completion at most
    limit_s: float = 5.0  # seconds that a program has
    samples: int = 1  # completions of each row; several need filters, or all are the same
    k: int = 1  # of pass@k, estimated without bias from the samples
    subject = "model"
    needs = ("run",)
    metrics = {"humaneval_solved": ("share", "higher"), "humaneval_solved_in_k": ("share", "higher")}  # metric: unit, better way

    def __post_init__(self) -> None:
        if self.count < 0 or self.limit < 1 or not self.limit_s > 0:
            raise ValueError("count must be at least 0, limit at least 1 and limit_s above 0")
        demand(self.samples, self.k)

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each sample of each row; a completion ends where the next piece of top-level code begins."""
        stops = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(")
        for key, row in asked(source, self.file, ("prompt", "test", "entry_point"), self.count):
            about = {"group": group_of(row, key), "kind": "program", "tests": f"{row['test']}\ncheck({row['entry_point']})\n"}
            target = str(row.get("canonical_solution", ""))
            for one in tries(key, self.samples):
                yield Item(one, str(row["prompt"]).rstrip(), "generate", target, self.limit, stops, **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where all tests pass, else 0. BadInput without tools."""
        helpers, own = f"{item.prompt}\n    pass\n", item.tests.rstrip().rpartition("\ncheck(")[2].removesuffix(")")
        before = helpers if parsed(helpers) else ""
        return Grade(float(passes(f"{item.prompt}{episode.text}", item.tests, sandboxed(tools), self.limit_s, (own,), before)))

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share solved by a sample, and by one of k, with intervals clustered by group."""
        return counted(rows, "humaneval_solved", self.samples, self.k, rng)

"""Task `mbpp`: small programs from a sentence and three tests, judged by running them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.data.calls import passes, sandboxed
from bloomery.data.python_text import defined, imports
from bloomery.data.questions import Row, asked, filled, group_of
from bloomery.num.pass_at import counted, demand, tries
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

FORM = "You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
END = "[DONE]"


@dataclass(frozen=True)
class Mbpp:
    """Share of described programs that pass the tests which the model was shown.

    P268 Austin et al. 2021, arXiv 2108.07732
    Differs: rows of the same form are read from a local file (text or prompt, code, test_list); the first `shots` rows are the
        examples and are not asked; tests call the program from a process of their own, out of its reach, where
        a result that is no plain value equals nothing.
    Costs: `samples` completions for each row, each run once in the sandbox.
    """

    file: str = ""  # of the questions' folder, without .jsonl; empty: those whose rows have the fields
    count: int = 0  # rows asked at most; 0: all
    shots: int = 3  # first rows that are shown with their programs before each question
    limit: int = 256  # tokens of a program at most
    limit_s: float = 5.0  # seconds that a program has
    samples: int = 1  # completions of each row; several need filters, or all are the same
    k: int = 1  # of pass@k, estimated without bias from the samples
    subject = "model"
    needs = ("run",)
    metrics = {"mbpp_solved": ("share", "higher"), "mbpp_solved_in_k": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.shots) < 0 or self.limit < 1 or not self.limit_s > 0:
            raise ValueError("count and shots must be at least 0, limit at least 1 and limit_s above 0")
        demand(self.samples, self.k)

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each sample of each row after the examples."""
        rows = list(asked(source, self.file, ("code", "test_list"), self.count + self.shots if self.count else 0))
        shown = "".join(f"{question(row)}{row['code'].strip()}\n{END}\n" for _, row in rows[: self.shots])
        for key, row in rows[self.shots :]:
            before = [str(row.get("test_setup_code", "")), *map(str, row.get("test_imports", ()))]
            tests = "\n".join([*before, *row["test_list"]])
            about = {"group": group_of(row, key), "kind": "program", "tests": tests}
            for one in tries(key, self.samples):
                yield Item(one, shown + question(row), "generate", str(row["code"]), self.limit, (END,), **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where all tests pass, else 0. BadInput without tools."""
        own, before = defined(item.target), imports(item.target)
        return Grade(float(passes(episode.text, item.tests, sandboxed(tools), self.limit_s, own, before)))

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share solved by a sample, and by one of k, with intervals clustered by group."""
        return counted(rows, "mbpp_solved", self.samples, self.k, rng)


def question(row: Row) -> str:
    """A row as the model is asked it."""
    return filled(FORM, {"text": row.get("text", row.get("prompt", "")), "tests": "\n".join(row["test_list"])})

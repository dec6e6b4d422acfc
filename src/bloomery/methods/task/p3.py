"""Task `p3`: programming puzzles, whose answer is judged by the puzzle itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.calls import outcomes, passes, sandboxed, trial
from bloomery.data.literals import is_kind, literal, of_kind
from bloomery.data.questions import Row, asked, group_of
from bloomery.num.pass_at import counted, demand, tries
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

IMPORT = "from typing import List\n\n\n"
STOPS = ("\n\n\n", "\ndef ", "\nclass ", "\nassert ", "\nprint(")


@dataclass(frozen=True)
class P3:
    """Share of Python puzzles that a model solves: it writes a function whose value makes the puzzle return True.

    P302 Schuster et al. 2021, arXiv 2106.05784
    Differs: the model goes on after the header and docstring of `sol`; the first `shots` puzzles with a solution are shown solved and
        not asked. Program and puzzle run apart, so that what is written never meets its judge: only a literal of the kind that the
        puzzle asks for passes between them, of at most 256 KB. Instances of one puzzle are one group.
    Costs: `samples` completions for each row, each run once in the sandbox, and the puzzle once more.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have the fields
    count: int = 0  # puzzles asked at most; 0: all
    shots: int = 3  # puzzles that are shown with their solutions before each one
    limit: int = 256  # tokens of a solution at most
    limit_s: float = 5.0  # seconds that the program has, and the puzzle
    samples: int = 1  # completions of each puzzle; several need filters, or all are the same
    k: int = 1  # of pass@k, estimated without bias from the samples
    subject = "model"
    needs = ("run",)
    metrics = {"p3_solved": ("share", "higher"), "p3_solved_in_k": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.shots) < 0 or self.limit < 1 or not self.limit_s > 0:
            raise ValueError("count and shots must be at least 0, limit at least 1 and limit_s above 0")
        demand(self.samples, self.k)

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each sample of each puzzle that is not shown. BadInput for a kind of answer that the format does not have."""
        rows = list(asked(source, self.file, ("sat", "ans_type", "sol_header"), 0))
        shown = [i for i, (_, row) in enumerate(rows) if row.get("sol_bodies")][: self.shots]
        before = "".join(f"{puzzle(rows[i][1])}\n{rows[i][1]['sol_bodies'][0].rstrip()}\n\n\n" for i in shown)
        left = [one for i, one in enumerate(rows) if i not in shown]
        for key, row in left[: self.count or None]:
            kind = str(row["ans_type"])
            if not is_kind(kind):
                raise BadInput(f"questions: {key}: ans_type {kind!r} is none of bool, int, float, str or lists of them; mend the row")
            target = "\n" + next(iter(row.get("sol_bodies") or [""])).rstrip()
            group = group_of(row, str(row.get("name", key)).partition(":")[0])
            about = {"group": group, "kind": kind, "tests": f"{IMPORT}{row['sat']}\n"}
            for one in tries(key, self.samples):
                yield Item(one, IMPORT + before + puzzle(row), "generate", target, self.limit, STOPS, **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the puzzle returns True for the answer, else 0; part `said` tells whether there was one of the right kind."""
        header = item.prompt[item.prompt.rindex("\ndef sol(") :]
        ran = sandboxed(tools).run(trial(IMPORT + header + episode.text, ["sol()"]), {}, self.limit_s)
        known, value = literal(outcomes(ran.stdout, 1)[0])
        if not known or not of_kind(value, item.kind):
            return Grade(0.0, {"said": 0.0})
        return Grade(float(passes(item.tests, f"assert sat({value!r}) is True", sandboxed(tools), self.limit_s, ("sat",))), {"said": 1.0})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share solved by a sample, and by one of k, with intervals clustered by puzzle."""
        return counted(rows, "p3_solved", self.samples, self.k, rng)


def puzzle(row: Row) -> str:
    """A puzzle, and the header of its solution with the docstring, without the line feed after it."""
    about = str(row.get("sol_docstring", "")).rstrip()
    return f"{str(row['sat']).rstrip()}\n\n\n{str(row['sol_header']).rstrip()}" + (f"\n{about}" if about else "")

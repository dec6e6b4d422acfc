"""Task `functions`: functions that are told by examples of what they give, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.calls import called, outcomes, sandboxed, trial
from bloomery.data.literals import alike, literal
from bloomery.data.questions import Row, asked, group_of
from bloomery.num.changes import mean_change
from bloomery.num.pass_at import counted, demand, tries
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]
STOPS = ("\n\n\n", "\ndef ", "\n#", "\nclass ", "\nprint(")


@dataclass(frozen=True)
class Functions:
    """Share of functions that a model writes rightly from examples of their inputs and outputs, over rounds of more examples.

    P277 Fu et al. 2024, arXiv 2411.06774
    Differs: rounds are asked apart, each with more examples than the one before, and the model does not see what it wrote; examples are
        those of the row in their order, not chosen against the program at hand. Values are compared as literals, kinds included, by
        what the program tells of calls whose results it is never given.
    Costs: `rounds` x `samples` completions for each row, each run once in the sandbox.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have the fields
    count: int = 0  # rows at most; 0: all
    rounds: int = 3  # times that a function is asked for, with more examples each time
    first: int = 3  # examples of the first round
    more: int = 1  # examples that each further round adds
    limit: int = 256  # tokens of a function at most
    limit_s: float = 5.0  # seconds that a program has for all calls
    samples: int = 1  # completions in each round; several need filters, or all are the same
    k: int = 1  # of pass@k, estimated without bias from the samples of the first round
    subject = "model"
    needs = ("run",)
    metrics = {
        "functions_solved": ("share", "higher"),
        "functions_solved_in_k": ("share", "higher"),
        "functions_solved_by_last": ("share", "higher"),
        "functions_conform": ("share", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or min(self.rounds, self.first, self.more, self.limit) < 1 or not self.limit_s > 0:
            raise ValueError("rounds, first, more and limit must be at least 1, count at least 0 and limit_s above 0")
        demand(self.samples, self.k)

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each sample of each round, of the kinds `round 0` and on; a row with few examples has fewer rounds."""
        for key, row in asked(source, self.file, ("entry_point", "examples", "tests"), self.count):
            shown, hidden = pairs(row, "examples", key), pairs(row, "tests", key)
            for r in range(self.rounds):
                most = self.first + r * self.more
                if r and most - self.more >= len(shown):
                    break
                told = "".join(f"# {call} == {gives}\n" for call, gives in shown[:most])
                prompt = f"# The function {row['entry_point']}, for which all of this holds:\n{told}def {row['entry_point']}("
                tests = json.dumps({"shown": shown[:most], "hidden": hidden})
                about = {"group": group_of(row, key), "kind": f"round {r}", "tests": tests, "question": key}
                target = str(row.get("code", "")).partition(f"def {row['entry_point']}(")[2].rstrip()
                for one in tries(f"{key}/{r}", self.samples):
                    yield Item(one, prompt, "generate", target, self.limit, STOPS, **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where every call, shown and hidden, gives what it should, else 0; part `conform` over those shown, `passed` the share
        of hidden ones. BadInput without tools."""
        tests = json.loads(item.tests)
        calls = [*tests["shown"], *tests["hidden"]]
        header = item.prompt[item.prompt.rindex("\ndef ") :]
        ran = sandboxed(tools).run(trial(header + episode.text, [call for call, _ in calls]), {}, self.limit_s)
        right = []
        for said, (_, gives) in zip(outcomes(ran.stdout, len(calls)), calls, strict=True):
            known, value = literal(said)
            right.append(known and alike(value, literal(gives)[1]))
        conform, hidden = all(right[: len(tests["shown"])]), right[len(tests["shown"]) :]
        return Grade(float(all(right)), {"conform": float(conform), "passed": sum(hidden) / len(hidden)})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """Shares solved in the first round, by one of k samples there, and in any round; the share of replies that fit the examples
        shown. Intervals are clustered by group."""
        found = counted([one for one in rows if one[0].kind == "round 0"], "functions_solved", self.samples, self.k, rng)
        ever: dict[tuple[str, str], tuple[str, float]] = {}
        for item, _, grade in rows:
            key, _, sample = item.id.rpartition("/") if self.samples > 1 else (item.id, "", "")
            place = key.rpartition("/")[0], sample
            ever[place] = item.group, max(grade.score, ever.get(place, ("", 0.0))[1])
        found |= share([score for _, score in ever.values()], [group for group, _ in ever.values()], rng).named("functions_solved_by_last")
        conform, groups = [grade.parts["conform"] for _, _, grade in rows], [item.group for item, _, _ in rows]
        return found | share(conform, groups, rng).named("functions_conform")

    def rights(self, rows: Rows) -> tuple[list[float], list[str]]:
        """Whether each sample of the first round solves its question, and its group."""
        first = [(grade.score, item.group) for item, _, grade in rows if item.kind == "round 0"]
        return [score for score, _ in first], [group for _, group in first]

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """The difference of the share solved in the first round."""
        (mine, groups), (theirs, _) = self.rights(rows), self.rights(others)
        return mean_change(mine, theirs, groups, rng).named("functions_solved") if mine else {}


def pairs(row: Row, field: str, key: str) -> list[tuple[str, str]]:
    """Calls and what they give, as text. BadInput for what is no call of the function with literals, and for a result that is none."""
    for one in row[field]:
        call = called(str(one[0])) if isinstance(one, list) and len(one) == 2 else None
        if call is None or call[0] != row["entry_point"] or not literal(str(one[1]))[0]:
            raise BadInput(f"questions: {key}: {field} holds {one!r}, which is no pair of a call and its literal result; mend the row")
    if not row[field]:
        raise BadInput(f'questions: {key}: {field} is empty; give pairs of a call and its result, such as ["f(2)", "4"]')
    return [(str(call), str(gives)) for call, gives in row[field]]

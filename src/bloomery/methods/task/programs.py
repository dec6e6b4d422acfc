"""Small programming tasks: a function of a list of numbers is described, shown at work, and judged by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.rng import python_rng
from bloomery.data.calls import outcomes, sandboxed, trial
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Step = tuple[str, str, Callable[[list[int], int], Any]]  # in words, as code, as what it does; {k} is a number
STEPS: dict[str, Step] = {
    "add": ("add {k} to each number", "xs = [x + {k} for x in xs]", lambda xs, k: [x + k for x in xs]),
    "times": ("multiply each number by {k}", "xs = [x * {k} for x in xs]", lambda xs, k: [x * k for x in xs]),
    "square": ("square each number", "xs = [x * x for x in xs]", lambda xs, k: [x * x for x in xs]),
    "negate": ("negate each number", "xs = [-x for x in xs]", lambda xs, k: [-x for x in xs]),
    "above": ("keep those above {k}", "xs = [x for x in xs if x > {k}]", lambda xs, k: [x for x in xs if x > k]),
    "below": ("keep those below {k}", "xs = [x for x in xs if x < {k}]", lambda xs, k: [x for x in xs if x < k]),
    "even": ("keep the even ones", "xs = [x for x in xs if x % 2 == 0]", lambda xs, k: [x for x in xs if x % 2 == 0]),
    "odd": ("keep the odd ones", "xs = [x for x in xs if x % 2 == 1]", lambda xs, k: [x for x in xs if x % 2 == 1]),
    "sort": ("sort them", "xs = sorted(xs)", lambda xs, k: sorted(xs)),
    "reverse": ("reverse them", "xs = xs[::-1]", lambda xs, k: xs[::-1]),
    "once": ("drop repeats", "xs = list(dict.fromkeys(xs))", lambda xs, k: list(dict.fromkeys(xs))),
}
ENDS: dict[str, Step] = {
    "sum": ("return the sum", "return sum(xs)", lambda xs, k: sum(xs)),
    "count": ("return how many there are", "return len(xs)", lambda xs, k: len(xs)),
    "most": ("return the largest, or 0", "return max(xs, default=0)", lambda xs, k: max(xs, default=0)),
    "least": ("return the smallest, or 0", "return min(xs, default=0)", lambda xs, k: min(xs, default=0)),
    "first": ("return the first {k}", "return xs[:{k}]", lambda xs, k: xs[:k]),
    "all": ("return them", "return xs", lambda xs, k: xs),
}
Plan = tuple[tuple[str, int], ...]  # steps by name, each with its number; the last one is an end


@dataclass(frozen=True)
class Programs:
    """Share of generated programming tasks whose completion gives the right answer on every hidden input.

    Source: standard practice; hidden tests decide as in Chen et al. 2021, arXiv 2107.03374.
    Differs: tasks are made here, compositions of steps on a list of numbers, so none stands in anybody's training text.
    Costs: `count` completions, each run once in the sandbox.
    """

    count: int = 40  # tasks
    steps: int = 2  # steps before the value is returned
    examples: int = 2  # calls that the docstring shows
    tests: int = 10  # hidden inputs
    limit: int = 96  # tokens of a completion at most
    limit_s: float = 2.0  # seconds that a program has for all hidden inputs
    subject = "model"
    needs = ("run",)
    metrics = {"programs_solved": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if min(self.count, self.examples, self.tests, self.limit) < 1 or self.steps < 0 or not self.limit_s > 0:
            raise ValueError("count, examples, tests and limit must be at least 1, steps at least 0 and limit_s above 0")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """`count` tasks in seeded order; the source is not looked at."""
        for i in range(self.count):
            plan, about = drawn(rng.child("plan", i), self.steps), rng.child("shown", i)
            shown = [f"    >>> solve({xs})\n    {answer(plan, xs)!r}\n" for xs in inputs(about, self.examples)]
            prompt = f'def solve(xs):\n    """{told(plan)}\n\n{"".join(shown)}    """'
            name = ".".join(f"{step}_{k}" for step, k in plan)
            yield Item(f"{i}:{name}", prompt, "generate", written(plan), self.limit, ("\n\n", "\ndef "), group=name, kind="program")

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where every hidden input is answered rightly, else 0; part `passed` is the share of them. BadInput without tools."""
        plan = tuple((step, int(k)) for step, _, k in (one.partition("_") for one in item.id.partition(":")[2].split(".")))
        hidden = inputs(Rng(("programs", item.id)), self.tests)
        ran = sandboxed(tools).run(trial(item.prompt + episode.text, [f"solve({xs})" for xs in hidden]), {}, self.limit_s)
        said = outcomes(ran.stdout, len(hidden))
        passed = sum(one == repr(answer(plan, xs)) for one, xs in zip(said, hidden, strict=True)) / len(hidden)
        return Grade(float(passed == 1), {"passed": passed})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share solved, with an interval over tasks."""
        return share([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("programs_solved")


def drawn(rng: Rng, steps: int) -> Plan:
    """A plan of `steps` steps and an end, no step twice."""
    draw = python_rng(rng)
    chosen = [*draw.sample(sorted(STEPS), min(steps, len(STEPS))), draw.choice(sorted(ENDS))]
    return tuple((name, draw.randint(2, 5)) for name in chosen)


def inputs(rng: Rng, count: int) -> list[list[int]]:
    """Lists of 3 to 8 numbers from -9 to 9; numbers repeat."""
    draw = python_rng(rng)
    return [[draw.randint(-9, 9) for _ in range(draw.randint(3, 8))] for _ in range(count)]


def answer(plan: Plan, xs: list[int]) -> Any:
    """What the described function gives."""
    for name, k in plan:
        xs = {**STEPS, **ENDS}[name][2](list(xs), k)
    return xs


def told(plan: Plan) -> str:
    """The plan as a sentence."""
    text = ", then ".join({**STEPS, **ENDS}[name][0].format(k=k) for name, k in plan)
    return text[0].upper() + text[1:] + "."


def written(plan: Plan) -> str:
    """The plan as the body of the function, from the line feed after the docstring on."""
    return "".join("\n    " + {**STEPS, **ENDS}[name][1].format(k=k) for name, k in plan) + "\n"

"""World `arithmetic`: problems with whole numbers and their answers, which anyone can check."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from bloomery.core.rng import python_rng
from bloomery.seams import Doc, Rng

DOMAINS = ("add", "subtract", "multiply", "chain")


@dataclass(frozen=True)
class World:
    """Documents of `lines` problems of one kind, each `Q: 12+7` and `A: 19` on lines of their own. chain: three numbers, added and
    subtracted from left to right."""

    documents: int = 4000
    seed: int = 0
    group: int = 4  # documents of a package
    lines: int = 6  # problems of a document
    most: int = 99  # largest number; of the smaller factor of a product 9

    def __post_init__(self) -> None:
        if min(self.documents, self.group, self.lines, self.most) < 1:
            raise ValueError("documents, group, lines and most must be at least 1")

    def problems(self, i: int) -> list[tuple[str, str]]:
        """The questions of document `i` with their answers."""
        draw = python_rng(Rng((self.seed, "arithmetic", i)))
        return [self.problem(self.domain(i), draw) for _ in range(self.lines)]

    def domain(self, i: int) -> str:
        """The kind of document `i`."""
        return DOMAINS[i // self.group % len(DOMAINS)]

    def document(self, i: int) -> Doc:
        """Document `i`."""
        text = "".join(f"Q: {question}\nA: {answer}\n" for question, answer in self.problems(i))
        return Doc(str(i), text, {"domain": self.domain(i), "package": f"{self.domain(i)}{i // self.group}"})

    def problem(self, kind: str, draw: Random) -> tuple[str, str]:
        """One question of a kind and its answer."""
        a, b, c = (draw.randint(0, self.most) for _ in range(3))
        if kind == "add":
            return f"{a}+{b}", str(a + b)
        if kind == "subtract":
            return f"{a}-{b}", str(a - b)
        if kind == "multiply":
            return f"{a}*{b % 10}", str(a * (b % 10))
        first, second = draw.choice("+-"), draw.choice("+-")
        return f"{a}{first}{b}{second}{c}", str(a + (b if first == "+" else -b) + (c if second == "+" else -c))

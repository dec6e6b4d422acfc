"""Task `ifeval`: whether a reply follows instructions that a program can verify."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.instructions import followed, lacking, loosened
from bloomery.data.questions import Row, asked, group_of
from bloomery.num.changes import mean_change
from bloomery.num.statistics import paired, ratio, share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]
WAYS = ("strict", "loose")


@dataclass(frozen=True)
class Ifeval:
    """Shares of prompts and of instructions that replies follow, as verified by a program: strictly, and with leeway.

    Source: Zhou et al. 2023, arXiv 2311.07911 (IFEval)
    Differs: rows of the published form are read from a local file (prompt, instruction_id_list, kwargs); all 25 instructions are checked
        by `data.instructions`, which says where it departs from the published program. A refusal follows whatever it happens to follow,
        such as an instruction to use no commas, as in the paper.
    Costs: one completion for each row.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have the fields
    count: int = 0  # rows at most; 0: all
    limit: int = 1024  # tokens of a reply at most
    chat: bool = True  # asked by the model's chat template where it has one; off: as plain text
    subject = "model"
    metrics = {
        "ifeval_prompts_strict": ("share", "higher"),
        "ifeval_instructions_strict": ("share", "higher"),
        "ifeval_prompts_loose": ("share", "higher"),
        "ifeval_instructions_loose": ("share", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.limit < 1:
            raise ValueError("count must be at least 0 and limit at least 1")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each row. BadInput for an instruction that is not known or lacks an argument."""
        template = self.chat and getattr(source.tokenizer, "template", None) is not None
        for key, row in asked(source, self.file, ("prompt", "instruction_id_list", "kwargs"), self.count):
            prompt, wanted = str(row["prompt"]), instructions(key, row)
            messages = (("user", prompt),) if template else ()
            about = {"group": group_of(row, key), "tests": json.dumps(wanted), "messages": messages}
            yield Item(key, prompt if template else f"{prompt}\n\n", "generate", "", self.limit, **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the reply follows all instructions strictly, else 0; parts strict and loose count those followed, of `wanted`."""
        wanted = json.loads(item.tests)
        ways = {"strict": [episode.text], "loose": loosened(episode.text)}
        parts = {way: float(sum(any(followed(text, *one) for text in texts) for one in wanted)) for way, texts in ways.items()}
        return Grade(float(parts["strict"] == len(wanted)), {**parts, "wanted": float(len(wanted))})

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """Prompts of which all instructions are followed, and instructions followed of all, with intervals clustered by group."""
        found: dict[str, float] = {}
        for way in WAYS:
            done, wanted, groups = columns(rows, way)
            found |= share([float(a == b) for a, b in zip(done, wanted, strict=True)], groups, rng).named(f"ifeval_prompts_{way}")
            found |= ratio(done, wanted, groups, rng).named(f"ifeval_instructions_{way}")
        return found

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of all four."""
        found: dict[str, float] = {}
        for way in WAYS:
            (mine, wanted, groups), (theirs, _, _) = columns(rows, way), columns(others, way)
            whole = [[float(a == b) for a, b in zip(done, wanted, strict=True)] for done in (mine, theirs)]
            found |= mean_change(*whole, groups, rng).named(f"ifeval_prompts_{way}")
            found |= paired(mine, theirs, wanted, groups, rng).named(f"ifeval_instructions_{way}")
        return found


def columns(rows: Rows, way: str) -> tuple[list[float], list[float], list[str]]:
    """Instructions followed, instructions wanted and the group of each reply."""
    return (
        [grade.parts[way] for _, _, grade in rows],
        [grade.parts["wanted"] for _, _, grade in rows],
        [item.group for item, _, _ in rows],
    )


def instructions(key: str, row: Row) -> list[tuple[str, dict]]:
    """The instructions of a row with their arguments, those that are null left out."""
    names, given = row["instruction_id_list"], row["kwargs"]
    if not isinstance(names, list) or not isinstance(given, list) or len(names) != len(given) or not names:
        raise BadInput(f"questions: {key}: instruction_id_list and kwargs are no lists of one length; mend the row")
    wanted = [(str(name), {k: v for k, v in (one or {}).items() if v is not None}) for name, one in zip(names, given, strict=True)]
    for name, arguments in wanted:
        if why := lacking(name, arguments):
            raise BadInput(f"questions: {key}: {why}; mend the row or leave it out")
    return wanted

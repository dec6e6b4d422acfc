"""Edit `prox`: a model reads each document and writes a short program that cleans it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.spans import Change, changed
from bloomery.seams import Doc, Drop, Rng, Tools

CUE = "\nprogram:"  # ends the lines, and asks for what is to be done with them
OPERATIONS = {"drop_doc": (), "keep_doc": (), "keep_chunk": (), "remove_lines": (int, int), "normalize": (str, str)}
NAMES = {"remove_lines": ("line_start", "line_end"), "normalize": ("source_str", "target_str")}
Operation = tuple[str, tuple]


@dataclass(frozen=True)
class Prox:
    """Applies to every chunk of lines the program that a refining model writes for it: drop the document, remove lines, replace text.

    P116 Zhou et al. 2024, arXiv 2409.17115
    Differs: one model and one program per chunk do both stages, and `drop_doc` counts in the first chunk alone; a program with
        anything but well-formed operations, or cut short, leaves its chunk as it was, where the authors' code executes what it can.
        `normalize` looks at the text as it was given, line by line.
    Costs: one completion of at most `limit` tokens per `lines` lines.
    """

    lines: int = 12  # lines of a chunk; with their numbers they must fit the model's context
    limit: int = 64  # tokens of a program at most
    chat: bool = True  # the refiner was tuned on conversations; off for one that was only pretrained
    needs = ("ask:refiner",)

    def __post_init__(self) -> None:
        if not 1 <= self.lines <= 1000 or self.limit < 1:
            raise ValueError("lines must be from 1 to 1000 and limit at least 1")

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself where no program changes it; dropped where one says so, or where nothing is left."""
        if tools is None:
            raise BadInput("prox asks a model in the role refiner, and no tools are at hand; name it under `roles` of a curate step")
        rows = doc.text.split("\n")
        chunks = [rows[at : at + self.lines] for at in range(0, len(rows), self.lines)]
        replies = tools.ask([prompt(chunk) for chunk in chunks], "refiner", limit=self.limit, chat=self.chat)
        changes: list[Change] = []
        at = 0
        for number, (chunk, reply) in enumerate(zip(chunks, replies, strict=True)):
            whole = reply.ended == "stop" and not reply.dropped
            program = (parsed(reply.text, len(chunk)) if whole else None) or []
            if number == 0 and ("drop_doc", ()) in program:
                return Drop("refiner")
            changes += made(program, chunk, at)
            at += sum(len(row) + 1 for row in chunk)
        clean = changed(doc, [(start, min(stop, len(doc.text)), text) for start, stop, text in changes])
        return [clean] if clean.text.strip() or not doc.text.strip() else Drop("nothing left")


def prompt(lines: Sequence[str]) -> str:
    """What the refiner is shown: the lines with their numbers, and the cue. A refiner is trained on this followed by `written`."""
    return "\n".join(f"[{number:03d}] {line}" for number, line in enumerate(lines)) + CUE


def written(program: Sequence[Operation]) -> str:
    """A program as text, one operation a line, each after a line feed; without operations the chunk is kept."""
    said = []
    for name, values in program or [("keep_chunk", ())]:
        named = zip(NAMES.get(name, ()), values, strict=True)
        said.append(f"\n{name}({', '.join(f'{key}={value!r}' for key, value in named)})")
    return "".join(said)


def parsed(text: str, lines: int) -> list[Operation] | None:
    """The operations of a program over so many lines; None where anything in it is malformed. Nothing is evaluated but literals."""
    found: list[Operation] = []
    try:
        for statement in ast.parse(text.strip()).body:
            call = statement.value if isinstance(statement, ast.Expr) else None
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in OPERATIONS:
                return None
            name, kinds = call.func.id, OPERATIONS[call.func.id]
            values = [ast.literal_eval(one) for one in call.args]
            named = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
            values += [named.pop(key) for key in NAMES.get(name, ())[len(values) :]]
            if named or len(values) != len(kinds) or not all(type(one) is kind for one, kind in zip(values, kinds, strict=True)):
                return None
            if name == "remove_lines" and not 0 <= values[0] <= values[1] < lines:
                return None
            if name == "normalize" and not values[0].strip():
                return None
            found.append((name, tuple(values)))
    except (SyntaxError, ValueError, TypeError, KeyError, MemoryError, RecursionError):
        return None
    return found or None


def made(program: Sequence[Operation], lines: Sequence[str], at: int) -> list[Change]:
    """The changes of a program to lines of which the first begins at character `at`; a line goes with the line feed after it."""
    gone = {k for name, values in program if name == "remove_lines" for k in range(values[0], values[1] + 1)}
    found: list[Change] = []
    for number, line in enumerate(lines):
        if number in gone:
            found.append((at, at + len(line) + 1, ""))
        else:
            taken: list[tuple[int, int]] = []
            for source, target in (values for name, values in program if name == "normalize"):
                place = line.find(source)
                while place >= 0:
                    stop = place + len(source)
                    if all(stop <= a or b <= place for a, b in taken):
                        taken.append((place, stop))
                        found.append((at + place, at + stop, target))
                    place = line.find(source, stop)
        at += len(line) + 1
    return found

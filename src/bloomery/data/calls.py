"""Programs tried in the sandbox: on calls whose outcomes are told, such as those of a docstring, and by tests out of their reach."""

from __future__ import annotations

import ast
import hmac
import inspect
import json
import random
import re
import secrets
from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.core.rng import python_rng
from bloomery.data import judge
from bloomery.seams import Rng, Tools

MARK = "\x1e"  # begins a line that tells a call's outcome
SECRET = secrets.token_bytes(16)  # of this process: no program can know the mark of its own judge


def examples(text: str) -> list[tuple[str, str]]:
    """The calls that a text shows after `>>>`, each with what it gives; sessions that are no single call are passed over."""
    import doctest

    bare = re.sub(r"""^\s*(?:\"{3}|'{3})\s*$""", "", text, flags=re.MULTILINE)  # the end of a docstring is no outcome
    try:
        shown = doctest.DocTestParser().get_examples(bare)
    except ValueError:  # a session that is laid out wrongly
        return []
    return [(one.source.strip(), one.want.strip()) for one in shown if called(one.source) is not None and one.want.strip()]


def called(source: str) -> tuple[str, list[Any]] | None:
    """Name and arguments of a call whose arguments are literals, None for anything else."""
    try:
        node = ast.parse(source.strip(), mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return node.func.id, [ast.literal_eval(argument) for argument in node.args]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    return None


def mutated(calls: Sequence[str], count: int, rng: Rng) -> list[str]:
    """`count` further calls, made by changing the arguments of the given ones: numbers moved, sequences cut, joined and shuffled."""
    known = [found for call in calls if (found := called(call)) is not None]
    draw = python_rng(rng)
    made = []
    for _ in range(count if known else 0):
        name, arguments = draw.choice(known)
        made.append(f"{name}({', '.join(repr(_changed(one, draw)) for one in arguments)})")
    return made


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, bool):
        return draw.random() < 0.5
    if isinstance(value, int):
        return draw.choice([value, -value, value + draw.randint(-3, 3), draw.randint(-10, 10)])
    if isinstance(value, float):
        return draw.choice([value, -value, value * 2, value + draw.uniform(-1, 1)])
    if isinstance(value, str | list | tuple):
        parts = [one if isinstance(value, str) else _changed(one, draw) for one in value]
        draw.shuffle(parts)
        parts = draw.choice([parts, parts + parts[: len(parts) // 2], parts[1:], parts])
        return "".join(parts) if isinstance(value, str) else type(value)(parts)
    if isinstance(value, dict):
        return {key: _changed(one, draw) for key, one in value.items()}
    return value


def trial(program: str, calls: Sequence[str]) -> str:
    """A program that makes each call after `program` and tells its outcome, for `outcomes` to read."""
    lines = [program, "", "import sys as _sys"]
    for i, call in enumerate(calls):
        lines += ["try:", f"    _said = repr({call})", "except BaseException as _error:", "    _said = type(_error).__name__"]
        lines += [f"_sys.stdout.write('\\n\\x1e{i} ' + ascii(_said) + '\\n')"]
    return "\n".join(lines) + "\n"


def sandboxed(tools: Tools | None, what: str = "programs") -> Tools:
    """The tools; BadInput where there are none, since nothing that a model writes is run outside the sandbox."""
    if tools is None:
        raise BadInput(f"{what} are graded by running them, and no tools are at hand; grade them through an evaluate step")
    return tools


def passes(program: str, tests: str, tools: Tools, limit_s: float, own: Sequence[str] = (), before: str = "") -> bool:
    """Whether all tests run through, in the sandbox, with the program in a process of its own, as `data.judge` tells. `own` are the names
    that the program must define, also where Python has such a name; `before` is run ahead of the tests, without the program."""
    order = {"program": program, "tests": tests, "own": list(own), "before": before}
    text = json.dumps(order, sort_keys=True)
    mark = hmac.new(SECRET, text.encode(), "sha256").hexdigest()
    ran = tools.run(inspect.getsource(judge), {"order.json": json.dumps({**order, "mark": mark}).encode()}, limit_s)
    return bool(ran.ok) and ran.stdout.rstrip("\n").rpartition("\n")[2] == mark


def outcomes(stdout: str, count: int) -> tuple[str | None, ...]:
    """What each call gave, as text; the name of the error where it raised one, None where the program did not come to it."""
    found: list[str | None] = [None] * count
    for line in stdout.split("\n"):
        number, _, said = line.removeprefix(MARK).partition(" ")
        if line.startswith(MARK) and number.isascii() and number.isdigit() and int(number) < count:
            try:
                value = ast.literal_eval(said)
            except (SyntaxError, ValueError):
                continue
            found[int(number)] = value if isinstance(value, str) else None
    return tuple(found)

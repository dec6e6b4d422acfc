"""The functions that a Python module offers, and how they differ between two versions of it, by its source alone: nothing is run."""

from __future__ import annotations

import ast
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.literals import literal


def offered(source: str, what: str) -> dict[str, str]:
    """Public functions and methods by dotted name, each with its parameters as text; BadInput for what is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise BadInput(f"questions: {what} is no Python ({error}); mend the row") from None
    found: dict[str, str] = {}
    for node in tree.body:
        inner = [(f"{node.name}.", one) for one in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        for before, one in inner:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and (not one.name.startswith("_") or one.name == "__init__"):
                found[before + one.name] = ast.unparse(one.args)
    return found


def changes(old: str, new: str, what: str) -> dict[str, tuple[str, str]]:
    """Functions whose parameters differ, were added ("" before) or taken away ("" after), with both as text."""
    before, after = offered(old, f"the old version of {what}"), offered(new, f"the new version of {what}")
    names = dict.fromkeys([*before, *after])
    return {name: (before.get(name, ""), after.get(name, "")) for name in names if before.get(name) != after.get(name)}


def call_of(text: str, module: str) -> tuple[str, str] | None:
    """Of a text whose first line is one call of the module's with literal arguments: the function's dotted name within the module, and the
    call in plain spelling; None for anything else, such as prose, a value, or a call within a call."""
    lines = [line for line in text.strip().split("\n") if line.strip() and not line.startswith("```")]
    try:
        node: Any = ast.parse(lines[0].strip(), mode="eval").body if lines else None
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if not isinstance(node, ast.Call) or any(keyword.arg is None for keyword in node.keywords):
        return None
    if not all(literal(ast.unparse(one))[0] for one in [*node.args, *(keyword.value for keyword in node.keywords)]):
        return None
    name, _, function = ast.unparse(node.func).partition(".")
    return (function, ast.unparse(node)) if name == module and function else None

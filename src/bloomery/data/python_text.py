"""What text is as Python, by syntax alone: nothing is ever executed."""

from __future__ import annotations

import ast
import math
import warnings


def parsed(text: str) -> bool:
    """Whether `text` is a Python module; absurd nesting is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _statements(text: str) -> list[ast.stmt]:
    return ast.parse(text).body if parsed(text) else []


def defined(text: str) -> list[str]:
    """The names of functions and classes that a module defines at its top; none of what is no Python."""
    return [one.name for one in _statements(text) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]


def imports(text: str) -> str:
    """The import statements at the top of a module, a line each."""
    return "".join(f"{ast.unparse(one)}\n" for one in _statements(text) if isinstance(one, ast.Import | ast.ImportFrom))


def goes_on(prompt: str, completion: str, ended: bool, keep: float) -> bool:
    """Whether a completion parses together with its prompt.

    `ended`: the writer said that the text ends here, so all of it must parse, and something must be there. One that was cut ends in the
    middle of something, so trailing lines may be left off, as long as the share `keep` of its lines that are not blank (and at least
    one) remains.
    """
    if ended:
        return bool(completion.strip()) and parsed(f"{prompt}{completion}\n")
    lines = [line + "\n" for line in completion.split("\n")[:-1]]
    written = sum(not line.isspace() for line in lines)
    need, text = max(1, math.ceil(keep * written)), prompt
    texts = [text := text + line for line in lines]
    while lines and written >= need:
        if parsed(texts.pop()):
            return True
        written -= not lines.pop().isspace()
    return False

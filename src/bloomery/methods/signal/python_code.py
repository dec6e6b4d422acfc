"""Signal `python_code`: whether Python code is sound, and how it is written."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class PythonCode:
    """Whether a document parses as Python, how many functions it has, and the shares that are documented and annotated.

    Source: standard practice; functions and their docstrings as in Husain et al. 2019, arXiv 1909.09436 (CodeSearchNet).
    Differs: parsed by the running Python's grammar, so code of Python 2 does not parse; nothing is executed or imported.
    Costs: one parse, about 5 MB/s.
    """

    longest: int = 1_000_000  # characters; a longer document is not parsed, and counts as not parsing

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """parses (1 or 0), functions, documented, annotated (shares of functions; 0 without any)."""
        rows = [self._measured(doc.text) for doc in docs]
        return {name: [row[k] for row in rows] for k, name in enumerate(("parses", "functions", "documented", "annotated"))}

    def _measured(self, text: str) -> tuple[float, float, float, float]:
        if len(text) > self.longest:
            return 0.0, 0.0, 0.0, 0.0
        try:
            with warnings.catch_warnings():  # about escapes in the strings of others
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return 0.0, 0.0, 0.0, 0.0
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        count = max(1, len(functions))
        documented = sum(ast.get_docstring(node, clean=False) is not None for node in functions)
        annotated = sum(node.returns is not None or any(one.annotation for one in _arguments(node)) for node in functions)
        return 1.0, float(len(functions)), documented / count, annotated / count


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    given = node.args
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *(one for one in (given.vararg, given.kwarg) if one)]

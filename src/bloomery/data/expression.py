"""The `keep:` expression: conditions over columns, such as `length.words >= 20 and repetition.duplicate_lines < 0.3`.

Parsed by Python's own grammar against a whitelist, evaluated over whole numpy columns, never by `eval`. Allowed are column
names, numbers, strings, comparisons (chains too), and, or, not, + - * / and parentheses.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput, near

COMPARE = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
ARITHMETIC = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide}
NAMES = {
    ast.Call: "a call",
    ast.Subscript: "a subscript",
    ast.Lambda: "a lambda",
    ast.IfExp: "an if-else",
    ast.Attribute: "an attribute",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.List: "a list",
    ast.Tuple: "a tuple",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment",
    ast.Starred: "a star",
    ast.Await: "an await",
    ast.Pow: "the operator **",
    ast.Mod: "the operator %",
    ast.FloorDiv: "the operator //",
    ast.In: "the operator in",
    ast.NotIn: "the operator not in",
    ast.Is: "the operator is",
    ast.IsNot: "the operator is not",
}
ALLOWED = "allowed are columns, numbers, strings, comparisons, and, or, not, + - * / and parentheses"


@dataclass(frozen=True)
class Keep:
    """A checked expression; `clauses` are its top-level `and` parts: the text of each and its syntax tree."""

    text: str
    clauses: tuple[tuple[str, Any], ...]
    columns: tuple[str, ...]  # names used

    def failed(self, columns: Mapping[str, Any]) -> np.ndarray:
        """For each row the number of the first clause that it fails, or -1 where all hold. NaN fails every comparison but !=."""
        rows = len(next(iter(columns.values()))) if columns else 0
        first = np.full(rows, -1, np.int64)
        with np.errstate(all="ignore"):
            for number in reversed(range(len(self.clauses))):
                holds = np.broadcast_to(_value(self.clauses[number][1], columns), (rows,))
                first[~holds] = number
        return first


def parse_keep(text: str, kinds: Mapping[str, str]) -> Keep:
    """Check `text` against the known columns, `kinds` = {"length.words": "number", "document.path": "text", ...}.

    Raises BadInput with one sentence that names the piece and its position. An empty text keeps everything.
    """
    flat = str(text).replace("\n", " ").replace("\r", " ").strip()
    if not flat:
        return Keep("", (), ())
    try:
        tree = ast.parse(flat, mode="eval").body
    except SyntaxError as error:
        at = min(max(error.offset or 1, 1), len(flat))
        raise BadInput(f"keep: {flat!r} is not an expression (character {at}: {error.msg}); write it like length.words >= 20") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadInput(f"keep: the expression cannot be read ({error}); make it shorter or simpler") from None
    names: list[str] = []
    try:
        _require(tree, _kind(tree, flat, kinds, names), "condition", flat)
        parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
        clauses = tuple((" ".join(_piece(part, flat).split()), part) for part in parts)
    except RecursionError:
        raise BadInput("keep: the expression is nested too deeply; make it simpler") from None
    return Keep(flat, clauses, tuple(dict.fromkeys(names)))


def _piece(node: ast.AST, flat: str) -> str:
    return ast.get_source_segment(flat, node) or ast.unparse(node)


def _at(node: ast.AST, flat: str) -> int:
    """Position in the expression, counted in characters from 1 (the parser counts bytes from 0)."""
    return len(flat.encode()[: node.col_offset].decode(errors="replace")) + 1


def _refuse(node: Any, flat: str, what: str, mend: str = ALLOWED) -> BadInput:
    return BadInput(f"keep: {what} at character {_at(node, flat)} ({_piece(node, flat)!r}); {mend}")


def _require(node: ast.AST, kind: str, wanted: str, flat: str) -> None:
    if kind != wanted:
        mend = "compare it with something, for example length.words >= 20" if wanted == "condition" else f"a {wanted} is needed here"
        raise _refuse(node, flat, f"a {kind} is not a {wanted}", mend)


def _kind(node: Any, flat: str, kinds: Mapping[str, str], names: list[str]) -> str:
    """The kind of a piece, condition, number or text; raises BadInput for whatever is not on the whitelist."""
    match node:
        case ast.BoolOp():
            for part in node.values:
                _require(part, _kind(part, flat, kinds, names), "condition", flat)
            return "condition"
        case ast.UnaryOp(op=ast.Not()):
            _require(node.operand, _kind(node.operand, flat, kinds, names), "condition", flat)
            return "condition"
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            _require(node.operand, _kind(node.operand, flat, kinds, names), "number", flat)
            return "number"
        case ast.BinOp():
            if type(node.op) not in ARITHMETIC:
                raise _refuse(node, flat, f"{NAMES.get(type(node.op), 'an operator')} is not allowed")
            for part in (node.left, node.right):
                _require(part, _kind(part, flat, kinds, names), "number", flat)
            return "number"
        case ast.Compare():
            return _compared(node, flat, kinds, names)
        case ast.Constant():
            return _constant(node, flat)
        case ast.Name() | ast.Attribute(value=ast.Name()):
            name = node.id if isinstance(node, ast.Name) else f"{node.value.id}.{node.attr}"
            if name not in kinds:
                raise _refuse(node, flat, f"unknown column {name!r}", near(name, list(kinds)))
            names.append(name)
            return kinds[name]
    raise _refuse(node, flat, f"{NAMES.get(type(node), type(node).__name__)} is not allowed")


def _compared(node: ast.Compare, flat: str, kinds: Mapping[str, str], names: list[str]) -> str:
    for op in node.ops:
        if type(op) not in COMPARE:
            raise _refuse(node, flat, f"{NAMES[type(op)]} is not allowed")
    parts = [node.left, *node.comparators]
    found = [_kind(part, flat, kinds, names) for part in parts]
    for part, kind in zip(parts, found, strict=True):
        if kind == "condition":
            raise _refuse(part, flat, "a condition cannot be compared", "write a chain like 0.2 < symbols.alphabetic < 0.9, or use and")
        _require(part, kind, found[0], flat)
    return "condition"


def _constant(node: ast.Constant, flat: str) -> str:
    if isinstance(node.value, str):
        return "text"
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        try:
            float(node.value)
        except OverflowError:
            raise _refuse(node, flat, "a number too large") from None
        return "number"
    raise _refuse(node, flat, f"{node.value!r} is not allowed")


def _value(node: Any, columns: Mapping[str, Any]) -> Any:
    """The column, or single value, of a checked piece."""
    match node:
        case ast.BoolOp():
            joined = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            result = _value(node.values[0], columns)
            for part in node.values[1:]:
                result = joined(result, _value(part, columns))
            return result
        case ast.UnaryOp():
            inner = _value(node.operand, columns)
            return np.logical_not(inner) if isinstance(node.op, ast.Not) else -inner if isinstance(node.op, ast.USub) else inner
        case ast.BinOp():
            return ARITHMETIC[type(node.op)](_value(node.left, columns), _value(node.right, columns))
        case ast.Compare():
            values = [_value(part, columns) for part in (node.left, *node.comparators)]
            result: Any = True
            for op, left, right in zip(node.ops, values, values[1:], strict=False):
                result = np.logical_and(result, COMPARE[type(op)](left, right))
            return result
        case ast.Constant():
            return node.value if isinstance(node.value, str) else np.float64(node.value)
        case ast.Name():
            return columns[node.id]
    return columns[f"{node.value.id}.{node.attr}"]

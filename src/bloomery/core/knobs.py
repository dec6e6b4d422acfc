"""Knobs: the fields of a method's or a stage's dataclass, read from its source without importing it, and the values given to them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from bloomery.core.errors import BadInput
from bloomery.seams import SEAMS

MISSING = object()
_PLAIN = {"int": int, "float": float, "str": str, "bool": bool, "None": None, "dict": dict, "list": list, "Any": Any}
_SEAM_OF = {protocol.__name__: seam for seam, protocol in SEAMS.items()}


@dataclass(frozen=True)
class Knob:
    """One field. `seam` is set where the value is a method (or several: `many`), `artifact` where it is a step's result."""

    name: str
    annotation: str
    default: Any
    help: str
    seam: str | None = None
    artifact: str | None = None  # the kind that is read; "*" for any
    many: bool = False
    named: bool = False  # artifacts by role names
    optional: bool = False

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @cached_property
    def adapter(self) -> Any:
        """pydantic's validator of a plain knob."""
        from pydantic import ConfigDict, TypeAdapter

        return TypeAdapter(_typing(ast.parse(self.annotation, mode="eval").body), config=ConfigDict(allow_inf_nan=False))

    def validate(self, value: Any, place: str) -> Any:
        """The value in the knob's type, tuples as lists (as JSON has them), or a sentence about what is wrong with it."""
        from pydantic import ValidationError

        try:
            if isinstance(value, bool) and not {"bool", "dict", "list", "Any"} & set(re.findall(r"\w+", self.annotation)):
                raise BadInput(f"{place}: {value} is no value here (the knob is {self.annotation})")
            return self.adapter.dump_python(self.adapter.validate_python(value), mode="json")
        except ValidationError as wrong:
            said = wrong.errors()[0]["msg"]
            if said == "Input should be a valid tuple":
                said = "say a list"
            raise BadInput(f"{place}: {said[0].lower()}{said[1:]}, got {value!r} (the knob is {self.annotation})") from None

    def construct(self, value: Any) -> Any:
        """What the dataclass receives: lists become tuples where the annotation says tuple."""
        return self.adapter.validate_python(value)

    def json_schema(self) -> dict:
        return self.adapter.json_schema()


def read_class(tree: ast.Module) -> ast.ClassDef | None:
    """The one public frozen dataclass of a method's or stage's file."""
    for node in tree.body:
        if (
            isinstance(node, ast.ClassDef)
            and not node.name.startswith("_")
            and any("dataclass" in ast.unparse(d) for d in node.decorator_list)
        ):
            return node
    return None


def read_knobs(node: ast.ClassDef, source: str) -> Iterator[Knob]:
    """The knobs of a dataclass in order; comments that trail a field are its help."""
    comments = _comments(source)
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        annotation = ast.unparse(field.annotation)
        if annotation.startswith("ClassVar"):
            continue
        default = MISSING if field.value is None else ast.literal_eval(field.value)
        shape = _shape(field.annotation)
        yield Knob(field.target.id, annotation, default, comments.get(field.end_lineno or 0, ""), **shape)


def _comments(source: str) -> dict[int, str]:
    """Line number -> trailing comment."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            found[token.start[0]] = token.string.lstrip("# ").strip()
    return found


def _shape(node: ast.expr) -> dict[str, Any]:
    """seam, artifact, many and optional of an annotation such as `tuple[Signal, ...]`, `Annotated[Artifact | None, "model"]`
    or `Annotated[dict[str, Artifact] | None, "model"]`, whose artifacts have names."""
    if isinstance(node, ast.Name) and node.id in _SEAM_OF:
        return {"seam": _SEAM_OF[node.id]}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        inner = {**_shape(node.left), **_shape(node.right)}
        return {**inner, "optional": True} if inner else {}
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id in ("tuple", "list"):
            inner = _shape(inside[0])
            return {**inner, "many": True} if inner else {}
        if node.value.id == "Annotated" and "Artifact" in ast.unparse(inside[0]):
            said = ast.unparse(inside[0])
            return {"artifact": ast.literal_eval(inside[1]), "optional": "None" in said, "named": said.startswith("dict")}
    return {}


def _typing(node: ast.expr) -> Any:
    """The type that an annotation of plain names denotes, built without evaluating it."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in _PLAIN:
        return _PLAIN[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_typing(node.left), _typing(node.right)]  # noqa: UP007 - built from pieces
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return Literal[tuple(ast.literal_eval(one) for one in inside)]
        arguments = tuple(... if isinstance(one, ast.Constant) and one.value is ... else _typing(one) for one in inside)
        if node.value.id in ("tuple", "list", "dict"):
            return {"tuple": tuple, "list": list, "dict": dict}[node.value.id][arguments if len(arguments) > 1 else arguments[0]]
    raise TypeError(f"a knob cannot have the type {ast.unparse(node)}; see CONTRIBUTING.md for those it can")

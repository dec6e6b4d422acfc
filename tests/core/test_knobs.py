"""Knobs as the source shows them."""

from __future__ import annotations

import ast

import pytest

from bloomery.core.errors import BadInput
from bloomery.core.knobs import MISSING, read_class, read_knobs

SOURCE = '''
@dataclass(frozen=True)
class Toy:
    """A toy."""
    model: Annotated[Artifact, "model"]  # what is read
    others: tuple[Annotated[Artifact, "*"], ...] = ()
    maybe: Annotated[Artifact | None, "tokens"] = None
    rate: float = 1e-3  # peak # rate
    many: tuple[Signal, ...] = ("length",)
    inner: Optim | None = None
    pair: tuple[float, float] = (0.9, 0.95)
    names: tuple[str, ...] = ()
    mode: Literal["a", "b"] = "a"
    size: int | None = None
    table: dict[str, float] = {}
    kind: ClassVar[str] = "toy"
    scope = "element"
'''
KNOBS = {knob.name: knob for knob in read_knobs(read_class(ast.parse(SOURCE)), SOURCE)}


def test_fields_are_read_with_their_help():
    assert list(KNOBS) == ["model", "others", "maybe", "rate", "many", "inner", "pair", "names", "mode", "size", "table"]
    assert KNOBS["model"].help == "what is read" and KNOBS["rate"].help == "peak # rate"
    assert KNOBS["model"].default is MISSING and KNOBS["rate"].default == 1e-3


def test_methods_and_artifacts_are_told_from_plain_values():
    assert (KNOBS["model"].artifact, KNOBS["model"].many, KNOBS["model"].optional) == ("model", False, False)
    assert (KNOBS["others"].artifact, KNOBS["others"].many) == ("*", True)
    assert (KNOBS["maybe"].artifact, KNOBS["maybe"].optional) == ("tokens", True)
    assert (KNOBS["many"].seam, KNOBS["many"].many) == ("signal", True)
    assert (KNOBS["inner"].seam, KNOBS["inner"].optional) == ("optim", True)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("rate", "1e-4", 1e-4),
        ("rate", 1, 1.0),
        ("pair", [1, 2], [1.0, 2.0]),
        ("names", ["a"], ["a"]),
        ("mode", "b", "b"),
        ("size", None, None),
        ("table", {"x": 1}, {"x": 1.0}),
    ],
)
def test_values_take_the_knobs_type(name, given, kept):
    assert KNOBS[name].validate(given, "here") == kept


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("rate", "fast"),
        ("rate", float("inf")),
        ("rate", None),
        ("pair", [1]),
        ("names", "abc"),
        ("mode", "c"),
        ("size", 1.5),
        ("table", {"x": "y"}),
    ],
)
def test_wrong_values_are_refused(name, given):
    with pytest.raises(BadInput, match=r"here\.") as caught:
        KNOBS[name].validate(given, f"here.{name}")
    assert "\n" not in str(caught.value)


def test_tuples_are_built_from_lists():
    assert KNOBS["pair"].construct([0.5, 0.6]) == (0.5, 0.6)


def test_a_type_that_no_knob_can_have_is_refused():
    source = "@dataclass(frozen=True)\nclass Toy:\n    net: Tensor = None\n"
    (knob,) = read_knobs(read_class(ast.parse(source)), source)
    with pytest.raises(TypeError, match="Tensor"):
        _ = knob.adapter

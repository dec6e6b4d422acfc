"""What two versions of a module offer, by their source."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.signatures import call_of, changes

OLD = """
def same(a): pass
def renamed(x, y=1): pass
def gone(): pass
def _own(a): pass
class Box:
    def __init__(self, w): pass
    def size(self): pass
"""
NEW = """
def same(a):
    return 2
def renamed(x, *, width=1): pass
def come(b: int = 2): pass
def _own(b): pass
class Box:
    def __init__(self, w, h=0): pass
    def size(self): pass
"""


def test_exact_all_planted_changes_and_no_other():
    found = changes(OLD, NEW, "m")
    assert set(found) == {"renamed", "gone", "Box.__init__", "come"}
    assert found["renamed"] == ("x, y=1", "x, *, width=1") and found["come"] == ("", "b: int=2")
    assert changes(OLD, OLD, "m") == {}
    with pytest.raises(BadInput, match="new version of m is no Python"):
        changes(OLD, "def (", "m")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("m.f(1, b=[2])\nmore", ("f", "m.f(1, b=[2])")), ("```\nm.Box.of( -1 )", ("Box.of", "m.Box.of(-1)")), ("m.f()", ("f", "m.f()")),
        ("6", None), ("m.f(1) or 6", None), ("n.f(1)", None), ("f(1)", None), ("m.f(m.g())", None), ("m.f(**{})", None),
        ("Use m.f(1).", None), ("", None), ("(lambda: 6)()", None), ("result = m.f(1)", None), ("m.f(open('x'))", None),
    ],
)  # fmt: skip
def test_a_call_is_one_call_with_literals(text, found):
    assert call_of(text, "m") == found

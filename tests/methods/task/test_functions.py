"""Functions told by examples, in the sandbox."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.functions import Functions
from bloomery.seams import Episode, Rng, Source
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "functions"))
ROW = {
    "id": "square", "entry_point": "f", "code": "def f(x):\n    return x * x",
    "examples": [["f(0)", "0"], ["f(1)", "1"], ["f(2)", "4"], ["f(-3)", "9"]], "tests": [["f(5)", "25"], ["f(-1)", "1"], ["f(10)", "100"]],
}  # fmt: skip
MEMORY = "x):\n    return {0: 0, 1: 1, 2: 4}.get(x, 0)"


def items(rows=(ROW,), **knobs) -> list:
    return list(Functions(**knobs).items(Source(questions={"q": list(rows)}), RNG))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x):\n    return x * x", (1, 1, 1)), ("x):\n    return x ** 2\n\nprint('done')", (1, 1, 1)),
        (MEMORY, (0, 1, 0)), ("x):\n    return abs(x)", (0, 0, 1 / 3)), ("x):\n    return float(x * x)", (0, 0, 0)),
        ("x):\n    return str(x * x)", (0, 0, 0)), ("", (0, 0, 0)), (" It squares its input.", (0, 0, 0)),
        ("x):\n    I am sorry, but I cannot write this.", (0, 0, 0)), ("x):\n    import os\n    os._exit(0)", (0, 0, 0)),
        ("x):\n    class Any(int):\n        __eq__ = lambda self, o: True\n    return Any(3)", (0, 0, 0)),
        ("x):\n    return x * x\nf = lambda x: 0", (0, 0, 0)),
    ],
)  # fmt: skip
def test_fitting_the_examples_is_told_from_solving(text, found):
    item = items()[0]
    grade = Functions().grade(item, Episode("e", item.id, text), Sandbox())
    assert (grade.score, grade.parts["conform"]) == found[:2] and grade.parts["passed"] == pytest.approx(found[2])


def test_rounds_show_more_until_there_is_no_more():
    asked = items(rounds=5, first=2)
    assert [item.id for item in asked] == ["q:square/0", "q:square/1", "q:square/2"]
    assert [item.prompt.count(" == ") for item in asked] == [2, 3, 4] and all("f(5)" not in item.prompt for item in asked)
    assert asked[0].prompt.endswith("\ndef f(") and asked[0].target == "x):\n    return x * x"


def test_a_solver_is_ranked_above_one_that_learns_by_heart_and_the_round_is_told():
    task = Functions(rounds=2, first=2, samples=2, k=2)
    asked = items(rounds=2, first=2, samples=2, k=2)
    found = {}
    for name, replies in {
        "solver": ["x):\n    return x * x"] * 4,
        "second round": [MEMORY, MEMORY, "x):\n    return x * x", MEMORY],
        "memory": [MEMORY] * 4,
    }.items():
        graded = [(item, None, task.grade(item, Episode("e", item.id, text), Sandbox())) for item, text in zip(asked, replies, strict=True)]
        found[name] = task.summary(graded, RNG)
    assert [found[name]["functions_solved"] for name in found] == [1, 0, 0]
    assert [found[name]["functions_solved_by_last"] for name in found] == [1, 0.5, 0]
    assert [found[name]["functions_solved_in_k"] for name in found] == [1, 0, 0]
    assert all(one["functions_conform"] == 1 for one in found.values())
    assert task.compare(graded, graded, RNG)["functions_solved"] == 0


@pytest.mark.parametrize("field", ["examples", "tests"])
@pytest.mark.parametrize("pairs", [[["g(1)", "1"]], [["f(open('x'))", "1"]], [["f(1)", "h(2)"]], ["f(1)"], []])
def test_rows_hold_calls_with_literals(field, pairs):
    with pytest.raises(BadInput, match=f"q:square: {field}"):
        items([{**ROW, field: pairs}])


def test_knobs():
    for knobs in ({"rounds": 0}, {"limit_s": 0}, {"samples": 2, "k": 3}):
        with pytest.raises(ValueError, match=r"rounds|at most samples"):
            Functions(**knobs)
    with pytest.raises(BadInput, match="no tools"):
        Functions().grade(items()[0], Episode("e", "e", ""), None)

"""Calls of a library that has changed, in the sandbox."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.api_changes import ApiChanges
from bloomery.seams import Episode, Grade, Rng, Source
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "api"))
ROW = {
    "module": "shapes", "about": "The area of a rectangle, 2 by 3.",
    "legacy": "shapes.area(2, 3)", "updated": "shapes.area(width=2, height=3)",
    "old": "def area(w, h):\n    return w * h\ndef count(xs):\n    return len(xs)\n",
    "new": "def area(*, width, height):\n    return width * height\ndef count(xs):\n    return len(xs)\n",
}  # fmt: skip


def items(rows=(ROW,), **knobs) -> list:
    return list(ApiChanges(**knobs).items(Source(questions={"q": list(rows)}), RNG))


@pytest.mark.parametrize(
    ("text", "score", "outdated"),
    [
        (" shapes.area(width=2, height=3)", 1, 0), (" shapes.area(height=3, width=2)\nprint(result)", 1, 0),
        (" shapes.area(2, 3)", 0, 1), (" shapes.area(w=2, h=3)", 0, 1), (" shapes.area(width=2, height=4)", 0, 0), (" 6", 0, 0),
        (" shapes.area(2, 3) or 6", 0, 0), ("", 0, 0), (" The area is 6.", 0, 0), (" I cannot do that.", 0, 0),
        (" shapes.count([1, 2, 3, 4, 5, 6])", 0, 0), (" __import__('os')._exit(0)", 0, 0),
    ],
)  # fmt: skip
def test_a_call_counts_by_what_it_gives_under_the_new_version(text, score, outdated):
    item = items()[0]
    grade = ApiChanges().grade(item, Episode("e", item.id, text), Sandbox())
    assert (grade.score, grade.parts["outdated"]) == (score, outdated)


def test_completion_and_correction_are_asked_and_the_signature_only_where_it_is_told():
    complete, correct = items()
    assert complete.prompt.endswith("2 by 3.\nresult =") and "shapes.area" not in complete.prompt
    assert "# result = shapes.area(2, 3)\n" in correct.prompt and correct.kind == "correct" and complete.group == "shapes.area"
    assert items(told=True)[0].prompt.startswith("# shapes.area(*, width, height)\n")


def test_a_model_of_old_code_is_told_from_one_of_new_code():
    task = ApiChanges()
    found = {}
    for name in ("legacy", "updated"):
        graded = [(item, None, task.grade(item, Episode("e", "e", ROW[name]), Sandbox())) for item in items()]
        found[name] = task.summary(graded, RNG)
    assert [found["updated"][f"api_{one}"] for one in ("completed", "corrected", "outdated")] == [1, 1, 0]
    assert [found["legacy"][f"api_{one}"] for one in ("completed", "corrected", "outdated")] == [0, 0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"legacy": "shapes.count([1])", "updated": "shapes.count([1])"}, "have changed; the functions that did are area"),
        ({"updated": "6"}, "updated is no call"), ({"module": "a.b"}, "no name of a module"), ({"new": "def"}, "no Python"),
    ],
)  # fmt: skip
def test_rows_that_prove_nothing_are_refused(change, said):
    with pytest.raises(BadInput, match=said):
        items([{**ROW, **change}])
    with pytest.raises(ValueError, match="limit_s"):
        ApiChanges(limit_s=0)


def test_an_updated_call_that_fails_is_the_row_s_fault():
    (item, _) = items([{**ROW, "updated": "shapes.area(2, height=3)"}])
    with pytest.raises(BadInput, match="updated call gives no literal"):
        ApiChanges().grade(item, Episode("e", "e", ""), Sandbox())


def test_two_models_are_compared_kind_by_kind():
    task, asked = ApiChanges(), items()

    def graded(complete: float, correct: float) -> list:
        scores = {"complete": complete, "correct": correct}
        return [(item, None, Grade(scores[item.kind], {"outdated": 1 - scores[item.kind], "call": 1.0})) for item in asked]

    found = task.compare(graded(1, 0), graded(0, 0), RNG)
    assert [found[f"api_{one}"] for one in ("completed", "corrected", "outdated")] == [1, 0, -0.5] and found["api_completed.n"] == 1
    assert task.rights(graded(1, 0)) == ([1.0], ["shapes.area"])

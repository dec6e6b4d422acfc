"""Programs from a sentence and tests, in the sandbox."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.mbpp import Mbpp
from bloomery.seams import Episode, Rng, Source
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "task"))
ROWS = [
    {
        "task_id": i,
        "text": f"Add {i}.",
        "code": f"def f(x):\r\n    return x + {i}",
        "test_list": [f"assert f(1) == {1 + i}", f"assert f(0) == {i}"],
    }
    for i in range(6)
]


def test_the_first_rows_are_shown_and_not_asked():
    items = list(Mbpp(shots=2, count=3).items(Source(questions={"q": ROWS}), RNG))
    assert [item.id for item in items] == ["q:2", "q:3", "q:4"]
    assert items[0].prompt.count("[BEGIN]") == 3 and items[0].prompt.count("[DONE]") == 2 and items[0].prompt.endswith("[BEGIN]\n")
    assert "return x + 1" in items[0].prompt and "return x + 2" not in items[0].prompt and "assert f(1) == 3" in items[0].prompt
    assert len(list(Mbpp(shots=0).items(Source(questions={"q": ROWS}), RNG))) == 6


@pytest.mark.parametrize(("said", "score"), [("def f(x):\n    return 3 + x\n", 1), ("def f(x):\n    return 4", 0), ("quit()", 0), ("", 0)])
def test_all_tests_must_pass(said, score):
    item = next(Mbpp().items(Source(questions={"q": ROWS}), RNG))
    assert Mbpp().grade(item, Episode("a", item.id, said), Sandbox()).score == score


def test_setup_runs_before_the_tests_and_tools_are_needed():
    row = {**ROWS[0], "test_setup_code": "base = 1", "test_imports": ["import math"], "test_list": ["assert f(base) == math.floor(1.5)"]}
    item = next(Mbpp(shots=0).items(Source(questions={"q": [row]}), RNG))
    assert Mbpp().grade(item, Episode("a", item.id, item.target), Sandbox()).score == 1
    with pytest.raises(BadInput, match="no tools"):
        Mbpp().grade(item, Episode("a", item.id, ""), None)


@pytest.mark.parametrize(("said", "score"), [
    ("def sum(a, b):\n    return a - b", 1), ("def sum(a, b):\n    return 0", 0), ("def difference(a, b):\n    return a - b", 0),
    ("def sum(a, b):\n    import os\n    os._exit(0)", 0), ("import atexit, os\natexit.register(os._exit, 0)\nsum = lambda a, b: 2", 0),
])  # fmt: skip
def test_a_function_may_have_the_name_of_a_builtin(said, score):
    row = {"text": "{tests}", "code": "import math\ndef sum(a, b):\n    return a - b",
           "test_list": ["assert sum(5, 3) == 2", "assert math.isclose(sum(4, 3), 1)"]}  # fmt: skip
    item = next(Mbpp(shots=0).items(Source(questions={"q": [row]}), RNG))
    assert Mbpp().grade(item, Episode("a", item.id, said), Sandbox()).score == score
    assert item.prompt.count("assert sum(5, 3)") == 1, "what a row says is not filled in again"

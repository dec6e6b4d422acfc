"""Puzzles judged by themselves, in the sandbox."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.p3 import P3
from bloomery.seams import Episode, Rng, Source
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "p3"))
ROWS = [
    {"name": f"Hello:{i}", "sat": f"def sat(s: str, end={end!r}):\n    return 'Hello ' + s == 'Hello ' + end", "ans_type": "str",
     "sol_header": f"def sol(end={end!r}):", "sol_docstring": '    """Say the rest."""', "sol_bodies": ["    return end"]}
    for i, end in enumerate(("world", "moon", "sea"))
] + [
    {"name": "Pair:0", "sat": "def sat(li: List[int]):\n    return len(li) == 2 and sum(li) == 7 and li[0] > li[1]",
     "ans_type": "List[int]", "sol_header": "def sol():", "sol_docstring": "", "sol_bodies": []},
    {"name": "Half:0", "sat": "def sat(x: float):\n    return 2 * x == 1", "ans_type": "float", "sol_header": "def sol():",
     "sol_docstring": "", "sol_bodies": ["    return 1 / 2"]},
]  # fmt: skip
PAIR, HALF = "p:3", "p:4"


def items(**knobs) -> dict:
    return {item.id: item for item in P3(**knobs).items(Source(questions={"p": ROWS}), RNG)}


def score(item, text: str) -> tuple[float, float]:
    grade = P3(limit_s=1.0 if "while" in text else 5.0).grade(item, Episode("e", item.id, text), Sandbox())
    return grade.score, grade.parts["said"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\n    return [4, 3]", (1, 1)), ("\n    import math\n    return [math.comb(4, 1), 3]\n", (1, 1)),
        ("\n    return [3, 4]", (0, 1)), ("\n    return [7]", (0, 1)),
        ("\n    return (4, 3)", (0, 0)), ("\n    return [4.0, 3.0]", (0, 0)), ("\n    return [True, 6]", (0, 0)),
        ("\n    return None", (0, 0)),
        ("\n    return [4, 3", (0, 0)), ("", (0, 0)), (" The answer is [4, 3].", (0, 0)), ("\n    I cannot help with that.", (0, 0)),
        ("\n    while True: pass", (0, 0)), ("\n    raise ValueError([4, 3])", (0, 0)), ("\n    import os\n    os._exit(0)", (0, 0)),
        ("\n    class L(list):\n        def __eq__(self, o): return True\n        __len__ = lambda self: 2\n    return L([9, 9])", (0, 1)),
        ("\n    global sat\n    sat = lambda li: True\n    return [1, 1]", (0, 1)),
        ("\n    import builtins\n    builtins.len = lambda x: 2\n    builtins.sum = lambda x: 7\n    return [9, 1]", (0, 1)),
        ("\n    return [4, 3] and [[4, 3], [5, 2]]", (0, 0)),
    ],
)  # fmt: skip
def test_only_an_answer_that_the_puzzle_takes_counts(text, found):
    assert score(items(shots=0)[PAIR], text) == found


def test_references_solve_their_puzzles_and_floats_are_floats():
    for key, item in items(shots=0).items():
        if key != PAIR:
            assert score(item, item.target) == (1, 1)
    assert score(items()[HALF], "\n    return 1") == (0, 0)


def test_puzzles_that_are_shown_are_not_asked_and_instances_are_one_group():
    found = items(shots=2)
    assert list(found) == ["p:2", PAIR, HALF] and {item.group for item in found.values()} == {"Hello", "Pair", "Half"}
    prompt = found[PAIR].prompt
    assert prompt.count("def sat(") == 3 and prompt.count("return end\n") == 2 and prompt.endswith("\ndef sol():")
    assert found["p:2"].prompt.endswith('"""Say the rest."""') and "List[int]" not in found["p:2"].prompt
    assert list(items(shots=1, count=2)) == ["p:1", "p:2"]
    assert len({item.group for item in items(shots=0).values()}) == 3


def test_several_samples_are_items_of_their_own():
    task = P3(shots=0, samples=4, k=2)
    asked = list(task.items(Source(questions={"p": ROWS[3:4]}), RNG))
    assert [item.id for item in asked] == [f"p:0/{k}" for k in range(4)]
    texts = ["\n    return [4, 3]", "", "", ""]
    rows = [(item, None, task.grade(item, Episode("e", item.id, text), Sandbox())) for item, text in zip(asked, texts, strict=True)]
    found = task.summary(rows, RNG)
    assert found["p3_solved"] == 0.25 and found["p3_solved_in_k"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="at most samples"):
        P3(k=2)


def test_a_kind_of_another_format_is_refused_and_nothing_runs_outside():
    with pytest.raises(BadInput, match="ans_type 'Set"):
        list(P3(shots=0).items(Source(questions={"p": [{**ROWS[0], "ans_type": "Set[int]"}]}), RNG))
    with pytest.raises(BadInput, match="no tools"):
        P3().grade(items()[HALF], Episode("e", HALF, ""), None)

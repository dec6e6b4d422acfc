"""Functions judged by their tests, in the sandbox."""

from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.humaneval import Humaneval
from bloomery.seams import Episode, Rng, Source
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "task"))
ROW = {
    "task_id": "T/0", "prompt": 'def double(x):\n    """Twice x."""\n', "canonical_solution": "    return 2 * x\n", "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "score"),
    [
        ("\n    return 2 * x", 1), ("\n    return x + 2", 0), ("\n    import sys\n    sys.exit(0)", 0),
        ("\n    import os\n    os._exit(0)", 0),
        ("\n    return (", 0), ("\n    while True: pass", 0), ("\n    print('passed')\n    raise SystemExit", 0),
        ("\n    return type('A', (int,), {'__eq__': lambda *_: True})(7)", 0),
        ("\n    return 1\nimport sys\nsys._getframe().f_globals['check'] = lambda f: None", 0),
    ],
)  # fmt: skip
def test_only_a_program_whose_tests_run_through_passes(body, score):
    task = Humaneval(limit_s=1.0)
    item = next(task.items(Source(questions={"q": [ROW]}), RNG))
    assert item.id == "q:T/0" and not item.prompt.endswith("\n") and "\ndef " in item.stop
    assert task.grade(item, Episode("a", item.id, body), Sandbox()).score == score


def test_no_program_is_run_without_the_sandbox():
    item = next(Humaneval().items(Source(questions={"q": [ROW]}), RNG))
    with pytest.raises(BadInput, match="evaluate step"):
        Humaneval().grade(item, Episode("a", item.id, ""), None)
    with pytest.raises(ValueError, match="limit_s"):
        Humaneval(limit_s=0)


def test_several_samples_give_pass_at_k():
    task = Humaneval(samples=3, k=2)
    items = list(task.items(Source(questions={"q": [ROW]}), RNG))
    assert [item.id for item in items] == [f"q:T/0/{k}" for k in range(3)] and {item.group for item in items} == {"q:T/0"}
    rows = [(item, None, task.grade(item, Episode("a", item.id, f"\n    return {k} * x"), Sandbox())) for k, item in enumerate(items)]
    found = task.summary(rows, RNG)
    assert found["humaneval_solved"] == pytest.approx(1 / 3) and found["humaneval_solved_in_k"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="at most samples"):
        Humaneval(k=2)


def test_helpers_of_the_prompt_are_the_tests_own():
    prompt = "import math\n\ndef poly(xs, x):\n    return sum(c * math.pow(x, i) for i, c in enumerate(xs))\n\n"
    prompt += 'def zero(xs):\n    """A zero."""\n'
    test = "def check(candidate):\n    for xs in ([2, 1], [6, 3]):\n        assert math.fabs(poly(xs, candidate(xs))) < 1e-4\n"
    row = {"prompt": prompt, "test": test, "entry_point": "zero", "canonical_solution": "    return -xs[0] / xs[1]"}
    item = next(Humaneval().items(Source(questions={"q": [row]}), RNG))
    grade = lambda body: Humaneval().grade(item, Episode("a", item.id, body), Sandbox()).score  # noqa: E731
    assert grade("\n    return -xs[0] / xs[1]") == 1 and grade("\n    return 1") == 0
    assert grade("\n    return 1\npoly = lambda xs, x: 0") == 0, "a program cannot put its own in their place"
    cut = {**row, "prompt": "def zero(xs): return (", "test": "def check(candidate):\n    assert candidate([2, 1]) == -2\n"}
    item = next(Humaneval().items(Source(questions={"q": [cut]}), RNG))
    assert grade("-xs[0] / xs[1])") == 1, "a prompt that is no whole function has no helpers"

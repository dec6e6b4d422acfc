from __future__ import annotations

import contextlib
import hashlib
import io
import json

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.calls import MARK, called, examples, mutated, outcomes, passes, sandboxed, trial
from bloomery.seams import Rng


def test_examples_of_a_docstring_up_to_its_end():
    text = 'def f(x):\n    """Twice.\n\n    >>> f(2)\n    4\n    >>> f([1,\n    ...    2])\n    [1, 2, 1, 2]\n    """\n    return 2 * x\n'
    assert examples(text) == [("f(2)", "4"), ("f([1,\n   2])", "[1, 2, 1, 2]")]
    assert examples("no sessions") == [] and examples(">>> x = 3\n>>> print(y)\n3\n") == []
    assert examples("  >>> f(1)\n1\n  >>>f(2)\n") == []  # laid out wrongly


@pytest.mark.parametrize("source", ["f(x)", "a.f(1)", "f(k=1)", "f(1) + 1", "f(", "import os", "__import__('os').system('x')", ""])
def test_only_calls_of_literals_are_calls(source):
    assert called(source) is None


def test_mutated_calls_are_calls_of_the_same_kind():
    made = mutated(["f([1, 2, 3], 'ab', {'k': 1})", "f(x)"], 40, Rng((0,)))
    assert len(made) == 40 and made == mutated(["f([1, 2, 3], 'ab', {'k': 1})", "f(x)"], 40, Rng((0,)))
    assert len(set(made)) > 20
    for one in made:
        name, (numbers, text, table) = called(one)
        assert name == "f" and type(numbers) is list and type(text) is str and set(table) == {"k"}
    assert mutated(["f(x)"], 3, Rng((0,))) == [] and called(mutated(["f(1.5, True, (1,), None)"], 1, Rng((0,)))[0])


def test_a_trial_tells_what_each_call_gives():
    program = "def f(x):\n    print('noise', end='')\n    return {'é': x} if x else 1 / x\n"
    code, said = trial(program, ["f(1)", "f(0)", "g(1)", "exit()"]), io.StringIO()
    with contextlib.redirect_stdout(said):
        source = compile(code.replace("_sys.stdout", "_out"), "trial", "exec")
        exec(source, {"_out": said})
    assert outcomes(said.getvalue(), 4) == ("{'é': 1}", "ZeroDivisionError", "NameError", "SystemExit")


def test_outcomes_of_a_program_that_stopped_or_lied():
    assert outcomes("", 2) == (None, None)
    assert outcomes(f"{MARK}9 'x'\n{MARK}0 'x'\n{MARK}1 nonsense(\n{MARK}-1 'x'\n{MARK}² 'x'\n", 2) == ("x", None)


@pytest.mark.parametrize(
    ("stdout", "ok", "passed"), [("{}", True, True), ("x\n{}\n", True, True), ("{}", False, False), ("{}x", True, False), ("", True, False)]
)
def test_a_program_passes_with_the_mark_of_its_judge_as_the_last_line(stdout, ok, passed):
    asked = []

    class Tools:
        def run(self, code, files, limit_s):
            asked.append(json.loads(files["order.json"]))
            assert "assert a" not in code, "the judge is the same for all programs"
            return type("Ran", (), {"ok": ok, "stdout": stdout.replace("{}", asked[-1]["mark"])})

    assert passes("a = 1", "assert a", Tools(), 1.0, ("a",), "import math") is passed
    assert passes("a = 1", "assert  a", Tools(), 1.0) is passed
    assert passes("a = 1", "assert  a", Tools(), 1.0) is passed
    assert asked[0] | {"mark": ""} == {"program": "a = 1", "tests": "assert a", "own": ["a"], "before": "import math", "mark": ""}
    assert asked[0]["mark"] != asked[1]["mark"] == asked[2]["mark"], "one order has one mark, so that its reply is found again"
    assert len({one["mark"] for one in asked} | {hashlib.sha256(b"assert a").hexdigest()}) == 3


def test_without_tools_nothing_is_run():
    with pytest.raises(BadInput, match="programs are graded by running them, and no tools"):
        sandboxed(None)
    with pytest.raises(BadInput, match="queries are graded"):
        sandboxed(None, "queries")

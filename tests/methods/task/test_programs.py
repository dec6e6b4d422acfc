from __future__ import annotations

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.calls import examples
from bloomery.methods.task.programs import ENDS, STEPS, Programs, answer, drawn, inputs, told, written
from bloomery.seams import Episode, Rng, Source
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "programs"))


def items(**knobs):
    return list(Programs(**knobs).items(Source(), RNG))


def test_exact_a_plan_by_hand():
    plan = (("add", 3), ("even", 5), ("sum", 2))
    assert told(plan) == "Add 3 to each number, then keep the even ones, then return the sum."
    assert written(plan) == "\n    xs = [x + 3 for x in xs]\n    xs = [x for x in xs if x % 2 == 0]\n    return sum(xs)\n"
    assert answer(plan, [1, 2, 3]) == 4 + 6


def test_exact_the_written_code_does_what_the_plan_does():
    """All steps and ends, in one run of the sandbox: the reference answers are the code's."""
    plans = [((name, 3), ("all", 2)) for name in STEPS] + [((name, 3),) for name in ENDS]
    xs = [5, -4, 0, 5, 9, -7, 2]
    code = "".join(f"def f{i}(xs):{written(plan)}\nprint(f{i}({xs}))\n" for i, plan in enumerate(plans))
    assert Sandbox().run(code).stdout.split("\n")[:-1] == [repr(answer(plan, xs)) for plan in plans]


def test_grades_by_hidden_inputs():
    task, tools = Programs(count=1), Sandbox()
    (item,) = items(count=1)
    assert task.grade(item, Episode("e", item.id, item.target), tools).score == 1
    shown = dict(examples(item.prompt))
    cheat = f"\n    return {{{', '.join(f'{call[6:-1]!r}: {want}' for call, want in shown.items())}}}.get(str(xs))\n"
    grade = task.grade(item, Episode("e", item.id, cheat), tools)
    assert grade.score == 0 and grade.parts["passed"] < 0.5
    for text in ("", "\n    return (", "\n    while True: pass\n", "\n    import os; os._exit(0)\n"):
        assert task.grade(item, Episode("e", item.id, text), tools).score == 0
    with pytest.raises(BadInput, match="no tools"):
        task.grade(item, Episode("e", item.id, ""), None)


def test_property_tasks_differ_and_their_examples_are_true():
    found = items(count=30, steps=3)
    assert len({item.id for item in found}) == 30 and len({item.prompt for item in found}) > 25
    for item in found:
        plan = tuple((step, int(k)) for step, _, k in (one.partition("_") for one in item.id.partition(":")[2].split(".")))
        assert len(plan) == 4 and len(examples(item.prompt)) == 2
        for call, want in examples(item.prompt):
            assert repr(answer(plan, [int(x) for x in call[7:-2].split(",")])) == want
        hidden = inputs(Rng(("programs", item.id)), 10)
        assert not {f"solve({xs})" for xs in hidden} & {call for call, _ in examples(item.prompt)}
    assert drawn(RNG, 2) == drawn(RNG, 2) and items(count=3) == items(count=3)

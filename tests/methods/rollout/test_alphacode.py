from __future__ import annotations

import ast
from collections import Counter
from types import SimpleNamespace

import pytest

from bloomery.data.calls import MARK
from bloomery.methods.rollout.alphacode import Alphacode, in_turn, same
from bloomery.seams import Episode, Item, Rng

PROMPT = 'def f(x):\n    """Double.\n\n    >>> f(2)\n    4\n    """'
BODIES = {"double": lambda x: x * 2, "square": lambda x: x * x, "plus two": lambda x: x + 2, "four": lambda x: 4, "wrong": lambda x: 0}


class Programs:
    """An engine whose programs are names, so many of each, and tools that know what each does."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.texts, self.runs = [name for name, count in counts.items() for _ in range(count)], Counter()

    def sample(self, items, n, rng):
        return [[Episode(f"{item.id}#{k}", item.id, self.texts[k % len(self.texts)]) for k in range(n)] for item in items]

    def run(self, code, files, limit_s):
        name = next(name for name in BODIES if code.startswith(PROMPT + name + "\n"))
        self.runs[name] += 1
        calls = [line.partition("repr(")[2][:-1] for line in code.split("\n") if "_said = repr(" in line]
        said = [repr(BODIES[name](ast.literal_eval(call[2:-1]))) for call in calls]
        return SimpleNamespace(stdout="".join(f"\n{MARK}{i} {one!a}\n" for i, one in enumerate(said)))


def submitted(method: Alphacode, programs: Programs) -> list[str]:
    item = Item("i", PROMPT, "generate")
    return [episode.text for episode in method.rollout(programs, [item], programs, Rng((0,)))]


def test_exact_filtered_then_one_of_each_cluster_largest_first():
    programs = Programs({"wrong": 9, "four": 1, "double": 4, "square": 3, "plus two": 2})
    assert submitted(Alphacode(samples=19, budget=6), programs) == ["double", "square", "plus two", "four"]  # once each
    assert programs.runs == dict.fromkeys(BODIES, 1)  # equal programs are run once
    clusters = [["a", "b", "c"], ["d"], ["e", "f"]]
    assert in_turn(clusters, 5) == ["a", "d", "e", "b", "f"] and in_turn([], 3) == []


def test_property_each_step_finds_the_rare_right_program_more_often():
    counts = {"wrong": 40, "four": 12, "square": 2, "double": 4}
    arms = {"random": (False, False), "filtered": (True, False), "clustered": (True, True)}
    solved = {}
    for arm, (filtered, clustered) in arms.items():
        method = Alphacode(samples=58, budget=2, filtered=filtered, clustered=clustered)
        found = [
            method.submitted(Item("i", PROMPT, "generate"), episodes, Programs(counts), Rng((seed,))) for seed, episodes in every(counts)
        ]
        solved[arm] = sum(any(one.text == "double" for one in texts) for texts in found)
        assert all(len(texts) <= 2 for texts in found)
    assert solved["random"] < solved["filtered"] < solved["clustered"] == 40


def every(counts: dict[str, int]):
    engine = Programs(counts)
    return [(seed, engine.sample([Item("i", PROMPT, "generate")], 58, None)[0]) for seed in range(40)]


def test_without_examples_or_survivors_something_is_submitted():
    bare = Programs({"wrong": 3})
    item = Item("i", "def f(x):", "generate")
    assert len(Alphacode(samples=3, budget=2).rollout(bare, [item], bare, Rng((0,)))) == 1 and not bare.runs
    assert submitted(Alphacode(samples=3), Programs({"wrong": 3})) == ["wrong"]
    with pytest.raises(ValueError, match="at least 1"):
        Alphacode(budget=0)


def test_examples_are_compared_as_values_where_both_are_literals():
    assert same("'abc'", '"abc"') and same("[1, 'a']", '[1,"a"]') and same("{1: 2, 3: 4}", "{3: 4, 1: 2}") and same("<f at 1>", "<f at 1>")
    assert not same("'abc'", "abc") and not same(None, "None") and not same("ValueError", "1") and not same("2", "4")

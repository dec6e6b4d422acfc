from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from bloomery.tools.together import each


class Counting:
    def __init__(self) -> None:
        self.calls: list = []

    def ask(self, prompts, role="default", **sampling):
        self.calls.append((role, list(prompts), sampling))
        return [f"{role}:{one}" for one in prompts]

    def score(self, pairs, role="default"):
        self.calls.append((role, list(pairs), {}))
        return [(-1.0,) * len(text) for _, text in pairs]

    def run(self, code, files=None, limit_s=5):
        return SimpleNamespace(stdout=code)

    def embed(self, texts, role="default", pooling="weighted"):
        self.calls.append((role, list(texts), {"pooling": pooling}))
        return np.array([[len(text), 1] for text in texts], np.float32).reshape(len(texts), 2)


def test_questions_of_all_items_are_asked_together_turn_by_turn():
    tools = Counting()

    def talk(item, tools):
        (first,) = tools.ask([f"a{item}"], "one", limit=3)
        if item % 2:
            return first
        (second,), ((score,),) = tools.ask([f"{first}!"], "one", limit=3), tools.score([("", "x")])
        return first, second, score, tools.run("code").stdout

    found = each(talk, list(range(4)), tools)
    assert found == [("one:a0", "one:one:a0!", -1.0, "code"), "one:a1", ("one:a2", "one:one:a2!", -1.0, "code"), "one:a3"]
    assert tools.calls[0] == ("one", ["a0", "a1", "a2", "a3"], {"limit": 3})
    assert tools.calls[1:] == [("one", ["one:a0!", "one:a2!"], {"limit": 3}), ("default", [("", "x")], {})]


def test_an_item_that_swallows_errors_still_waits():
    def careless(item, tools):
        try:
            return tools.ask([item])[0]
        except Exception:
            return "lost"

    assert each(careless, ["x", "x", "y"], Counting()) == ["default:x", "default:x", "default:y"]
    assert each(careless, [], Counting()) == []


def test_equal_questions_are_asked_once_and_other_sampling_apart():
    tools = Counting()
    each(lambda item, tools: tools.ask(["q"], limit=item), [1, 1, 2], tools)
    assert [(prompts, sampling) for _, prompts, sampling in tools.calls] == [(["q"], {"limit": 1}), (["q"], {"limit": 2})]


def test_vectors_are_made_together():
    tools = Counting()
    found = each(lambda item, tools: tools.embed(["x" * item, "yy"][: item + 1], "one", "mean"), [0, 1, 3], tools)
    assert [one.tolist() for one in found] == [[[0, 1]], [[1, 1], [2, 1]], [[3, 1], [2, 1]]]
    assert tools.calls == [("one", ["", "x", "yy", "xxx"], {"pooling": "mean"})]
    assert each(lambda item, tools: tools.embed([], "one"), [0], tools)[0].shape == (0, 2)

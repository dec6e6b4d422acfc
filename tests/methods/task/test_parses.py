"""Parsing completions: what counts, what does not, and that nothing runs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bloomery.data.python_text import parsed
from bloomery.methods.task.parses import Parses
from bloomery.seams import Doc, Episode, Grade, Item, Rng, Source

RNG = Rng((3,))


class Words:
    """Tokens: runs of letters with the space before, other characters alone, white space in runs that end before a letter's space."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def encode(self, text: str) -> list[int]:
        found = re.findall(r" ?\w+|\s+(?!\S)|\s+|[^\s\w]", text)
        for piece in found:
            if piece not in self.known:
                self.known.append(piece)
        return [self.known.index(piece) for piece in found]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.known[i] for i in ids)


BODY = "".join(f"def function_{i}(argument):\n    first = argument + {i}\n    return first * 2\n\n\n" for i in range(30))
DOCS = [Doc(f"d{i}", f'"""Module {i}."""\nimport os\n\n\n{BODY}', {"package": f"p{i % 3}", "path": f"m{i}.py"}) for i in range(8)]
PROMPT = "def f(a):\n    return a"


def grade(completion: str, ended: str = "limit", keep: float = 0.5) -> float:
    item = Item("i", PROMPT, "generate", "\n\n\nx = 1\n", 96, group="p")
    found = Parses(keep=keep).grade(item, Episode("e", "i", text=completion, ended=ended), None)
    assert found.parts["real"] == 1
    return found.score


@pytest.mark.parametrize(
    ("completion", "ended", "expected"),
    [
        ("\n\n\ndef g():\n    return 2\n\n\ndef h(", "limit", 1),  # the last line was cut by the limit
        ("\n\n\ndef g():\n    return 2\n\n\ndef h(\n    a,\n", "limit", 1),  # an open bracket at the end: still half of the lines
        ("\n\n\ndef g(:\n    return 2\n    x = 1\n", "limit", 0),
        ("\nreturn = 3\nx = 1\n", "limit", 0),
        ("", "limit", 0),
        ("\n\n\n", "limit", 0),  # blank lines alone are no completion
        ("\nx = 1", "limit", 0),  # no whole line
        ("\nx = 1", "stop", 1),  # the model ended the document here
        (" + 1\n", "limit", 1),  # goes on with the prompt's last line
        ("\n" + "x = 1\n" * 3 + "y = (\n" * 3, "limit", 1),  # exactly half
        ("\n" + "x = 1\n" * 3 + "y = (\n" * 4, "limit", 0),
        ("\n" + "(" * 5000 + "\n", "limit", 0),
        ("\nx = '\0'\n", "limit", 0),
    ],
)
def test_what_counts_as_parsing(completion: str, ended: str, expected: float) -> None:
    assert grade(completion, ended) == expected


def test_keep_all_wants_every_line() -> None:
    assert grade("\nx = 1\ny = (\n", keep=1.0) == 0
    assert grade("\nx = 1\ny = 2\nz =", keep=1.0) == 1


def test_nothing_is_executed(tmp_path) -> None:
    mark = tmp_path / "ran"
    assert grade(f"\nopen({str(mark)!r}, 'w')\n") == 1
    assert not mark.exists()


def test_items_are_beginnings_that_parse_and_go_on_as_the_document() -> None:
    task = Parses(count=5, prompt=64, limit=30)
    others = [Doc("text", "x = 1\n" * 200, {"path": "a.txt"}), Doc("bad", "def (\n" * 99, {"path": "b.py"})]
    source = Source(tokenizer=Words(), docs=[*DOCS, *others])
    items = list(task.items(source, RNG))
    assert len(items) == 5
    for item in items:
        text = next(doc.text for doc in DOCS if doc.id == item.id)
        assert text.startswith(item.prompt + item.target)
        assert item.target.startswith("\n")
        assert parsed(item.prompt + "\n")
        assert len(source.tokenizer.encode(item.prompt)) <= 64
        assert 0 < len(source.tokenizer.encode(item.target)) <= 30
    assert items == list(task.items(replace(source, docs=source.docs[::-1]), RNG))
    assert items != list(task.items(source, RNG.child("other")))


def test_summary_gives_both_shares() -> None:
    rows = [(Item(str(i), "", "generate", group=str(i % 2)), Episode("", ""), Grade(float(i < 3), {"real": 1.0})) for i in range(4)]
    found = Parses().summary(rows, RNG)
    assert (found["parses"], found["parses@reference text"], found["parses.n"]) == (0.75, 1.0, 4)
    assert found["parses@reference text.low"] < found["parses@reference text.high"] == 1, "two groups are not all there are"


@pytest.mark.parametrize("knobs", [{"count": 0}, {"prompt": 3}, {"keep": 0.0}, {"keep": 1.5}])
def test_knobs_are_checked(knobs: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        Parses(**knobs)


def test_an_ending_that_was_chosen_must_be_whole():
    from bloomery.data.python_text import goes_on

    assert goes_on("def f():\n", "    x = 1\n    y = 2\n    return (", False, 0.5)
    assert not goes_on("def f():\n", "    x = 1\n    y = 2\n    return (", True, 0.5)
    assert goes_on("def f():\n", "    return 1", True, 0.5) and not goes_on("x = 1\n", " ", True, 0.5)

"""The next line: exact match, and items that can be answered."""

from __future__ import annotations

import pytest

from bloomery.methods.task.next_line import NextLine
from bloomery.seams import Doc, Episode, Item, Rng, Source

RNG = Rng((3,))


class Characters:
    """Every character is a token."""

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]


class Glued(Characters):
    """A line feed and all white space after it are one token with the character before it: nothing may be cut at a line end."""

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for c in text:
            if ids and c.isspace():
                ids[-1] = hash((ids[-1], c))
            else:
                ids.append(ord(c))
        return ids


DOCS = [Doc(f"d{i}", "".join(f"line {i} {j}\n\n    indented {j}\n" for j in range(20)), {"package": f"p{i % 3}"}) for i in range(8)]


@pytest.mark.parametrize(
    ("completion", "ended", "expected"),
    [
        ("\n    x = 1\n    y", "limit", 1),
        ("\n    x = 1  \n", "limit", 1),  # spaces at the end do not count
        ("\n    x = 1", "limit", 0),  # cut: might have gone on
        ("\n    x = 1", "stop", 1),
        ("\nx = 1\n", "limit", 0),  # indentation counts
        ("\n\n    x = 1\n", "limit", 0),  # a blank line first is another line
        (" + 2\n    x = 1\n", "limit", 0),  # went on with the prompt's line
        ("  \n    x = 1\n", "limit", 1),
        ("", "limit", 0),
    ],
)
def test_exact_match(completion: str, ended: str, expected: float) -> None:
    item = Item("i", "def f():", "generate", "    x = 1", 40)
    assert NextLine().grade(item, Episode("e", "i", text=completion, ended=ended), None).score == expected


def test_items_have_a_line_to_find() -> None:
    task = NextLine(count=6, prompt=200, limit=30)
    items = list(task.items(Source(tokenizer=Characters(), docs=DOCS), RNG))
    assert len(items) == 6
    for item in items:
        text = next(doc.text for doc in DOCS if doc.id == item.id)
        assert item.target.strip()
        assert text.startswith(f"{item.prompt}\n{item.target}\n")
        assert 80 <= len(item.prompt) <= 200
        answer = text[len(item.prompt) : len(item.prompt) + item.limit]
        assert task.grade(item, Episode("e", item.id, text=answer, ended="limit"), None).score == 1
    assert items == list(task.items(Source(tokenizer=Characters(), docs=DOCS[::-1]), RNG))


def test_prompts_never_end_inside_a_token_of_the_document() -> None:
    assert not list(NextLine().items(Source(tokenizer=Glued(), docs=DOCS), RNG))


def test_no_document_no_item() -> None:
    docs = [Doc("empty", ""), Doc("short", "x\ny\n"), Doc("one", "x" * 500)]
    assert not list(NextLine().items(Source(tokenizer=Characters(), docs=docs), RNG))


@pytest.mark.parametrize("knobs", [{"count": 0}, {"prompt": 3}, {"limit": 1}])
def test_knobs_are_checked(knobs: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        NextLine(**knobs)

"""Long texts of no interest with something hidden in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bloomery.core.rng import python_rng
from bloomery.seams import Rng

WHO = ("miller", "ferryman", "gardener", "teacher", "carpenter", "neighbour", "baker", "shepherd", "clerk", "weaver")
DID = ("carried", "painted", "forgot", "mended", "counted", "sold", "measured", "borrowed", "cleaned", "described")
WHAT = ("a ladder", "two baskets", "the old gate", "a coil of rope", "some lamps", "the long table", "a wet coat", "three bricks")
WHEN = ("in the morning", "before the rain", "after lunch", "near the river", "without a word", "on market day", "behind the barn")


def idle(rng: Rng) -> Iterator[str]:
    """Sentences without end that hold neither numbers nor capitals but the first letter."""
    draw = python_rng(rng)
    while True:
        yield f"The {draw.choice(WHO)} {draw.choice(DID)} {draw.choice(WHAT)} {draw.choice(WHEN)}."


def hidden(tokenizer: Any, planted: Sequence[tuple[float, str]], budget: int, rng: Rng) -> str:
    """Idle sentences of at most `budget` tokens in all, with each planted sentence at its depth (0: the beginning, 1: the end).

    What is planted is never left out, even where it is more than the budget.
    """
    left = budget - sum(len(tokenizer.encode(f" {sentence}")) for _, sentence in planted)
    filler: list[str] = []
    for sentence in idle(rng):
        left -= len(tokenizer.encode(f" {sentence}"))
        if left < 0:
            break
        filler.append(sentence)
    while True:
        text = " ".join(_placed(filler, planted))
        if not filler or len(tokenizer.encode(text)) <= budget:
            return text
        filler.pop()


def _placed(filler: Sequence[str], planted: Sequence[tuple[float, str]]) -> Iterator[str]:
    waiting = sorted(planted, key=lambda one: one[0])
    for i in range(len(filler) + 1):
        while waiting and (i == len(filler) or waiting[0][0] * len(filler) <= i):
            yield waiting.pop(0)[1]
        if i < len(filler):
            yield filler[i]


def budget_of(source: Any, tokens: int, room: int) -> int:
    """Tokens that a text may have: as many as asked for, 0 = all that the context holds, with `room` left for question and reply."""
    context = source.net.cfg.context
    return (min(tokens, context) if tokens else context) - room - 1


def without_middle(tokenizer: Any, text: str, budget: int) -> str:
    """A text of at most `budget` tokens: its beginning and its end in equal parts, where the whole has more."""
    ids = tokenizer.encode(text)
    room = budget
    while len(ids) > room:
        half = max(0, room // 2)
        shorter = tokenizer.decode(ids[: room - half]) + (tokenizer.decode(ids[-half:]) if half else "")
        if (over := len(tokenizer.encode(shorter)) - budget) <= 0:
            return shorter
        room = max(0, room - over)
    return text

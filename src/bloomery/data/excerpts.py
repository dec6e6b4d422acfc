"""Picking documents, and cutting them where a model could have stopped reading: what tasks that prompt with real text share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from bloomery.core.rng import digest
from bloomery.seams import Doc, Rng, Source

AROUND = 8  # tokens that a chat template puts around an answer, at most about
AHEAD = 256  # characters after a cut that may still change how the text before it is split into tokens


def shuffled(docs: Sequence[Doc], rng: Rng) -> list[Doc]:
    """The documents in an order that depends on the key and on each one's id alone: adding one leaves the others' order as it was."""
    key = digest(rng)
    return sorted(docs, key=lambda doc: (hashlib.sha256(key + doc.id.encode()).digest(), doc.id))


def prompt_tokens(tokenizer: Any, text: str, cut: int) -> list[int] | None:
    """Tokens of text[:cut], or None where the whole text's tokens do not break at `cut`.

    A prompt that ends inside a token of the whole text asks for something no training text contains (a line's indentation, say,
    is one token with the line end before it), so its continuation would be judged on an accident of cutting.
    """
    ids = list(tokenizer.encode(text[:cut]))
    return ids if list(tokenizer.encode(text[: cut + AHEAD]))[: len(ids)] == ids else None


def continuation(tokenizer: Any, text: str, cut: int, limit: int) -> str:
    """The text of the `limit` tokens after `cut` (at most): what a model would have to say to go on exactly as the document does."""
    ids = list(tokenizer.encode(text[cut : cut + 32 * limit]))
    return text[cut:] if len(ids) <= limit and cut + 32 * limit >= len(text) else tokenizer.decode(ids[:limit])


def line_ends(text: str, start: int, stop: int) -> list[int]:
    """Positions in [start, stop) of line feeds; a cut there leaves the line end to the continuation."""
    found, at = [], text.find("\n", start, stop)
    while at >= 0:
        found.append(at)
        at = text.find("\n", at + 1, stop)
    return found


def asked(source: Source, kinds: Sequence[str], count: int, room: int, rng: Rng) -> Iterator[tuple[Doc, int]]:
    """The first `count` conversations of `kinds` (all where none is named) in seeded order, each with the tokens of its answer.

    Those that do not fit the model's context are passed over: the question, laid out by the chat template or as plain text, and the
    answer, or `room` tokens where more are to be written.
    """
    context = source.net.cfg.context if source.chats else 0
    for doc in shuffled([doc for doc in source.chats if not kinds or doc.meta.get("kind") in kinds], rng.child("conversations")):
        if not count:
            return
        size = len(source.tokenizer.encode(doc.text))
        question = max(len(source.tokenizer.question(doc.meta["messages"])), len(source.tokenizer.encode(doc.meta["plain"])))
        if size and question + max(size, room) + AROUND <= context:
            count -= 1
            yield doc, size

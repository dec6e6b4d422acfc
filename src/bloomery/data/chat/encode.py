"""Conversations as token shards: laid out by a chat template, with the answers marked as what is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import digest
from bloomery.data.chat.read import Conversation
from bloomery.data.chat.template import ChatTemplate
from bloomery.data.shards import write_shards
from bloomery.data.split import held_out
from bloomery.seams import Rng

Example = tuple[list[int], list[tuple[int, int, float]]]


def split(conversations: Sequence[Conversation], share: float, rng: Rng) -> tuple[list[Conversation], list[Conversation]]:
    """(training, held out): whole packages where conversations name them, else single conversations; equal questions stay together."""
    if share <= 0 or len(conversations) < 2:
        return list(conversations), []
    packages = [one.package for one in conversations]
    if all(packages) and len(set(packages)) > 1:
        sizes = [sum(len(text.encode()) for _, text in one.messages) for one in conversations]
        chosen = held_out(packages, sizes, share, rng)
        groups = packages
    else:
        groups = ["\0".join(text for role, text in one.messages if role != "assistant") for one in conversations]
        ordered = sorted(set(groups), key=lambda group: digest(rng.child(group)))
        chosen = set(ordered[: min(max(1, round(share * len(ordered))), len(ordered) - 1)])
    parts: tuple[list[Conversation], list[Conversation]] = ([], [])
    for one, group in zip(conversations, groups, strict=True):
        parts[group in chosen].append(one)
    return parts


def examples(
    conversations: Sequence[Conversation], template: ChatTemplate, context: int, long: Literal["drop", "cut"], advance: Callable[[int], Any]
) -> tuple[list[tuple[Conversation, Example]], Counter[str]]:
    """Ids and marks of every conversation that has something to train on, and why others have not; `advance` is told of each one.

    Tokens break where an answer begins, as they do when the model is asked.
    At most `context` + 1 tokens are kept: as many inputs as a row has, and the last target.
    """
    kept, dropped = [], Counter()
    for one in conversations:
        advance(1)
        try:
            ids, spans = template.example(one.told, as_asked=True, tools=one.tools)
        except BadInput as wrong:
            dropped[f"refused by the chat template: {str(wrong)[:80]}"] += 1
            continue
        if len(ids) > context + 1:
            if long == "drop":
                dropped["too long for the context"] += 1
                ids = []
            ids = ids[: context + 1]
            spans = [(start, min(stop, len(ids)), weight) for start, stop, weight in spans if start < len(ids)]
        if ids and not any(stop > max(start, 1) and weight > 0 for start, stop, weight in spans):
            dropped["no token to train on"] += 1
            ids = []
        if ids:
            kept.append((one, (ids, spans)))
    return kept, dropped


def trained(example: Example) -> np.ndarray:
    """The weight of each token as a target, (tokens,); the first is never one."""
    ids, spans = example
    weights = np.zeros(len(ids), np.float64)
    for start, stop, weight in spans:
        weights[start:stop] = weight
    weights[:1] = 0
    return weights


def write(folder: Path, kept: Sequence[tuple[Conversation, Example]], vocab: int) -> dict[str, int]:
    """Shards of the examples, one document each; what `write_shards` returns."""

    def documents() -> Any:
        for one, (ids, spans) in kept:
            size = sum(len(text.encode()) for _, text in one.messages)
            yield {"id": one.id, "package": one.package, "path": one.path, "bytes": size, "spans": spans}, np.asarray(ids, np.int64)

    return write_shards(folder, documents(), vocab)

"""Documents within a budget, for selections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput

BLOCK = 1 << 20  # characters of texts that are worked on together


def costs(columns: Mapping[str, Any]) -> np.ndarray:
    """What each document takes of the budget (int64): its column "cost", or its bytes."""
    return np.asarray(columns["cost" if "cost" in columns else "bytes"], np.int64)


def filled(order: Iterable[int], sizes: np.ndarray, budget: float) -> np.ndarray:
    """Weights of 1 in this order until the budget is full, else 0; what would overflow it is passed over and the next one tried."""
    weights, left = np.zeros(len(sizes)), budget
    for row in order:
        if sizes[row] <= left:
            weights[row] = 1.0
            left -= int(sizes[row])
    return weights


def texts(columns: Mapping[str, Any], who: str) -> Sequence[str]:
    """The documents' texts, which may lie on disk: to be gone through in order, and not to be made a list of. BadInput, in the name of
    the method `who`, where it is not given them."""
    if "text" not in columns:
        raise BadInput(f"select: {who} reads the texts of documents, and is given only their numbers here")
    return columns["text"]


def blocks(texts: Iterable[str], most: int | None = None) -> Iterator[list[str]]:
    """All texts in order, so many at a time that they have about `most` characters, BLOCK where it is not said."""
    most, held = most or BLOCK, []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= most:
            yield held
            held, size = [], 0
    if held:
        yield held


def marked(columns: Mapping[str, Any], column: str, value: str, who: str, what: str) -> np.ndarray:
    """Which documents have a value in a column of text, and are `what` by that. BadInput, in the name of `who`, where none has."""
    if column not in columns:
        raise BadInput(f"select: {who}: there is no column {column!r} that could name the documents of {what}")
    found = np.array([str(one) == value for one in columns[column]], bool)
    if not found.any():
        raise BadInput(f"select: {who}: no document is of {column} {value!r}, {what}; the sources must hold both it and others")
    return found


def targets(columns: Mapping[str, Any], column: str, value: str, who: str) -> np.ndarray:
    """Which documents have a value in a column of text: the sample of what is wanted. BadInput where none or all have."""
    found = marked(columns, column, value, who, "the target")
    if found.all():
        raise BadInput(f"select: {who}: all documents are of {column} {value!r}, the target; the sources must hold both it and others")
    return found

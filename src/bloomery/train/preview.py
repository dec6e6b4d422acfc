"""The exact tokens that a step trains on, and what must never be trained on silently."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from bloomery.seams import Clock
from bloomery.train.batches import Feed

ENDS = 32  # documents whose last piece is looked at


@dataclass(frozen=True)
class Piece:
    """A piece of one document in a row: token ids, and the weight with which each is trained (0: only read).

    Where a view asks for something else than what it reads next, what it asks for stands behind the token at which it does.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def rows(feed: Feed, clock: Clock, most: int) -> Iterator[list[Piece]]:
    """The first rows of the step at `clock`, through the same batching and view as training; the feed moves on by that step."""
    for row in feed.plan(clock)[:most]:
        yield [piece(view) for view in feed.views(row, clock)]


def piece(view: dict) -> Piece:
    """A view as it is read and trained."""
    inputs, targets, weights = ([kind(one) for one in view[name]] for name, kind in (("inputs", int), ("targets", int), ("weights", float)))
    if all(not weight or target == after for target, weight, after in zip(targets, weights, inputs[1:])):
        return Piece((inputs[0], *targets), (0.0, *weights))
    shown = [(one, 0.0) for one in inputs[:1]]
    for place, (target, weight) in enumerate(zip(targets, weights, strict=True)):
        shown += [(target, weight)] if weight else []
        shown += [(one, 0.0) for one in inputs[place + 1 : place + 2]]
    return Piece(*map(tuple, zip(*shown, strict=True)))


def faults(feed: Feed, clock: Clock, bos: int | None, ending: Collection[int] | None, most: int = 64) -> list[str]:
    """What would be trained wrongly: nothing at all, a doubled begin token, end tokens that are never a target.

    `ending` are the tokens that end a document; with None it is not looked whether they are trained.
    """
    looked = [one for row in rows(feed, clock, most) for one in row]
    found = []
    if not any(weight > 0 for one in looked for weight in one.weights):
        found.append("no token of the first step is trained; check the weights of the view")
    if any(a == b == bos for one in looked for a, b in zip(one.ids, one.ids[1:])):
        found.append("a document begins with two begin tokens; the tokenizer adds one already")
    if ending is not None and not any(
        token in ending and weight > 0 for one in ends(feed, clock) for token, weight in zip(one.ids, one.weights)
    ):
        found.append("the end token is never trained, so that the model would never stop; let documents end with it")
    return found


def ends(feed: Feed, clock: Clock) -> Iterator[Piece]:
    """The last pieces of some documents, as they would be trained."""
    for document in range(min(ENDS, len(feed.lengths))):
        length = int(feed.lengths[document])
        for view in feed.views([(document, max(0, length - feed.pool.row), length)] if length else [], clock):
            yield piece(view)


def shows_targets(feed: Feed, clock: Clock) -> bool:
    """Whether every trained target of the step stands among the inputs, one place later: no task for a model that sees all of them."""
    shown = [
        int(view["inputs"][place + 1]) == int(view["targets"][place])
        for row in feed.plan(clock)
        for view in feed.views(row, clock)
        for place in range(len(view["inputs"]) - 1)
        if view["weights"][place] > 0
    ]
    return bool(shown) and all(shown)

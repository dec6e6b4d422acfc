"""Many small pieces of work that each ask a model a little, with their questions answered in batches.

A method's verb looks at one document. It is called with tools that only note what it asks and break it off; when all documents have
been broken off, the questions are answered together and every verb is called again, now with its answers at hand. Verbs have no
hidden state and take their randomness from a key, so calling one again does no harm, and one that asks in several turns is called
once more for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bloomery.seams import Episode, Grade, Item, Tools

In, Out = TypeVar("In"), TypeVar("Out")


class Pending(BaseException):
    """The verb waits for an answer. No Exception, so that nothing on its way takes it for a fault of a document."""


class _Noting:
    """Tools that answer what is known and note the rest; programs are run at once."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.known: dict[Any, Any] = {}
        self.asked: dict[tuple, dict[Any, None]] = {}  # (verb, role, sampling) -> questions in order

    def ask(self, prompts: Sequence[str], role: str = "default", **sampling: Any) -> list[Any]:
        return self._known(("ask", role, tuple(sorted(sampling.items()))), prompts)

    def score(self, pairs: Sequence[tuple[str, str]], role: str = "default") -> list[tuple[float, ...]]:
        return self._known(("score", role, ()), [tuple(pair) for pair in pairs])

    def embed(self, texts: Sequence[str], role: str = "default", pooling: str = "weighted") -> Any:
        import numpy as np

        found = self._known(("embed", role, (("pooling", pooling),)), texts)
        return np.stack(found) if found else self.tools.embed([], role, pooling)

    def sketch_grad(self, texts: Sequence[str], dim: int, role: str = "default") -> Any:
        return self.tools.sketch_grad(texts, dim, role)

    def run(self, code: str, files: Mapping[str, bytes] = {}, limit_s: float = 5) -> Any:
        return self.tools.run(code, files, limit_s)

    def search(self, query: Any, k: int, role: str = "default") -> list[tuple[str, float]]:
        return self.tools.search(query, k, role)

    def grade(self, item: Item, episode: Episode) -> Grade:
        return self.tools.grade(item, episode)

    def _known(self, way: tuple, questions: Sequence[Any]) -> list[Any]:
        missing = [one for one in questions if (way, one) not in self.known]
        if missing:
            self.asked.setdefault(way, {}).update(dict.fromkeys(missing))
            raise Pending
        return [self.known[way, one] for one in questions]

    def answer(self) -> None:
        """Ask all that was noted."""
        for way, questions in self.asked.items():
            verb, role, sampling = way
            found = getattr(self.tools, verb)(list(questions), role, **dict(sampling))
            self.known.update({(way, one): reply for one, reply in zip(questions, found, strict=True)})
        self.asked = {}


def each(function: Callable[[In, Tools], Out], items: Sequence[In], tools: Tools) -> list[Out]:
    """`function(item, tools)` of every item, in order, with the questions of all items answered together, turn by turn."""
    noting, done, left = _Noting(tools), {}, list(range(len(items)))
    while left:
        waiting = []
        for i in left:
            try:
                done[i] = function(items[i], noting)
            except Pending:
                waiting.append(i)
        noting.answer()
        left = waiting
    return [done[i] for i in range(len(items))]

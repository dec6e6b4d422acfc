from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bloomery.seams import Clock, Doc, Rng, Vocab


@dataclass(frozen=True)
class Rationale:
    """A question with a rationale and an answer becomes two tasks: the answer at once, and, after a mark, the rationale.

    P017 Hsieh et al. 2023, Distilling Step-by-Step, arXiv 2305.02301
    Differs: the answer's task has no prefix of its own, so that a model is asked as any other is; the rationale's is one spare token in
    the place of the word "explain"; of what is trained in a document the last range is the answer and those before it the rationale. Its
    tokens get a half of their weight, by which the loss `distilling_step_by_step` knows them.
    Costs: the question is read twice; a row holds half as much text.
    """

    marks: ClassVar[int] = 1

    def room(self, row: int) -> int:
        """Inputs of documents that fit a row, each being read twice at most, once after a mark."""
        return max(0, (row - 1) // 2)

    def view(self, ids: Sequence[int], doc: Doc | None, vocab: Vocab, clock: Clock, rng: Rng) -> list[dict[str, Any]]:
        """The answer after the question, and the rationale after mark and question. With one trained range, or none, it is an answer
        alone."""
        ids = np.asarray(ids, np.int64)
        spans = sorted(span for span in (doc.spans if doc is not None else []) if span[1] > span[0]) or [(1, len(ids), 1.0)]
        first, last = spans[0], spans[-1]
        question, (start, stop, weight) = ids[: first[0]], last
        found = [laid(question, ids[start:stop], [(0, stop - start, weight)], 1.0)]
        if len(spans) > 1:
            inner = [(a - first[0], b - first[0], w) for a, b, w in spans[:-1]]
            found.append(laid(np.r_[vocab.spare[0], question], ids[first[0] : spans[-2][1]], inner, 0.5))
        return [one for one in found if len(one["inputs"])]


def laid(before: np.ndarray, said: np.ndarray, spans: list[tuple[int, int, float]], share: float) -> dict[str, Any]:
    """What is read, and `share` of the weights of what is said."""
    tokens, weights = np.r_[before, said].astype(np.int64), np.zeros(len(before) + len(said), np.float32)
    for start, stop, weight in spans:
        weights[len(before) + start : len(before) + stop] = share * weight
    n = max(0, len(tokens) - 1)
    return {"inputs": tokens[:-1], "targets": tokens[1:], "weights": weights[1:], "positions": np.arange(n)}

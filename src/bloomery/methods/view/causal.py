from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.seams import Clock, Doc, Rng, Vocab


@dataclass(frozen=True)
class Causal:
    """Each token is predicted from those before it in its piece.

    Source: standard practice.
    Differs: positions begin at 0 in every piece; of a document with spans only the tokens within them are trained.
    Costs: nothing.
    """

    def view(self, ids: Sequence[int], doc: Doc | None, vocab: Vocab, clock: Clock, rng: Rng) -> list[dict[str, Any]]:
        """n + 1 tokens become n inputs with the n that follow as targets; fewer than 2 tokens become nothing. Weights are 1, or those
        of the document's spans and 0 elsewhere."""
        ids = np.asarray(ids, np.int64)
        n = len(ids) - 1
        if n < 1:
            return []
        weights = np.ones(n + 1, np.float32)
        if doc is not None and doc.spans:
            weights[:] = 0
            for start, stop, weight in doc.spans:
                weights[start:stop] = weight
        return [{"inputs": ids[:-1], "targets": ids[1:], "weights": weights[1:], "positions": np.arange(n)}]

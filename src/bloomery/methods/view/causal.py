from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.seams import Clock, Doc, Rng


@dataclass(frozen=True)
class Causal:
    """Each token is predicted from those before it in its piece.

    Source: standard practice.
    Differs: positions begin at 0 in every piece.
    Costs: nothing.
    """

    def view(self, ids: Sequence[int], doc: Doc | None, clock: Clock, rng: Rng) -> list[dict[str, Any]]:
        """n + 1 tokens become n inputs with the n that follow as targets, all of weight 1; fewer than 2 tokens become nothing."""
        ids = np.asarray(ids, np.int64)
        n = len(ids) - 1
        if n < 1:
            return []
        return [{"inputs": ids[:-1], "targets": ids[1:], "weights": np.ones(n, np.float32), "positions": np.arange(n)}]

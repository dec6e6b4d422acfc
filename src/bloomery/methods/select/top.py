"""Select `top`: the documents of which a number is highest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput, near
from bloomery.core.rng import numpy_rng
from bloomery.data.budget import costs, filled
from bloomery.seams import Rng


@dataclass(frozen=True)
class Top:
    """Documents in falling order of a column until the budget is full; every document weighs 1 or 0.

    Source: standard practice.
    Differs: documents of equal value come in random order; one that would overflow the budget is passed over and the next one tried.
    Costs: one sort.
    """

    column: str = "bytes"  # a signal's column, such as miniplm.gain
    lowest: bool = False  # the lowest values first instead

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """Weights (float64, one per document). BadInput for a column that is not there."""
        if self.column not in columns:
            raise BadInput(f"select: top: there is no column {self.column!r}; {near(self.column, list(columns))}")
        values = np.asarray(columns[self.column], np.float64) * (1 if self.lowest else -1)
        sizes = costs(columns)
        return filled(np.lexsort((numpy_rng(rng).random(len(sizes)), values)), sizes, budget)

"""Select `random`: a plain sample, the baseline of every other selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.rng import numpy_rng
from bloomery.data.budget import costs, filled
from bloomery.seams import Rng


@dataclass(frozen=True)
class Random:
    """Documents in random order until the budget is full; every document weighs 1 or 0.

    Source: standard practice.
    Differs: a document that would overflow the budget is passed over and the next one tried, so the budget is nearly filled.
    Costs: one permutation.
    """

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """Weights (float64, one per document); `columns["cost"]`, or else `columns["bytes"]`, is what each takes of the budget."""
        sizes = costs(columns)
        return filled(numpy_rng(rng).permutation(len(sizes)), sizes, budget)

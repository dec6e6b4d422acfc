"""Select `mixture`: each domain gets its share of the budget, small ones by repeating their documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput, near
from bloomery.core.rng import numpy_rng
from bloomery.data.budget import costs
from bloomery.seams import Rng


@dataclass(frozen=True)
class Mixture:
    """The budget divided over domains by their weights; a weight above 1 says how often a document is repeated.

    Source: mixture weights as in Brown et al. 2020, arXiv 2005.14165, table 2.2; the limit on repeats by Muennighoff et al. 2023, arXiv
    2305.16264, who find up to four epochs about as good as new data.
    Differs: whole documents, in random order; one that would overflow its domain's share is passed over. What a domain cannot fill within
    the limit is not given to others.
    Costs: one permutation.
    """

    weights: dict | None = None  # domain -> share of the budget, in any unit, such as {web: 3, code: 1}; None = all domains alike
    by: str = "domain"  # the column that says which domain a document belongs to
    most: int = 4  # times a document may stand in the corpus

    def __post_init__(self) -> None:
        given = self.weights
        if given is not None and not (given and all(isinstance(one, int | float) and one > 0 for one in given.values())):
            raise ValueError("weights must give every domain a number above 0, such as {web: 3, code: 1}")
        if self.most < 1:
            raise ValueError(f"most must be at least 1, not {self.most}")

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """Weights (float64, one per document), whole numbers; without the column, all are of one domain. BadInput for an unknown one."""
        domain = np.asarray(columns[self.by] if self.by in columns else [""] * len(columns["bytes"]), object)
        sizes = costs(columns).astype(np.float64)
        known = sorted(set(map(str, domain)))
        shares = self.weights or dict.fromkeys(known, 1.0)
        weights, total = np.zeros(len(sizes)), sum(shares.values())
        for name, share in shares.items():
            rows = np.flatnonzero(domain == name)
            if not len(rows):
                raise BadInput(f"select: mixture: no document has the {self.by} {name!r}; {near(str(name), known)}")
            weights[rows] = self._filled(sizes[rows], budget * share / total, rng.child(str(name)))
        return weights

    def _filled(self, sizes: np.ndarray, budget: float, rng: Rng) -> np.ndarray:
        """How often each document of one domain is taken: all of them for as many whole rounds as fit, then some once more."""
        rounds = int(min(self.most, budget // sizes.sum())) if sizes.sum() else 1
        taken, left = np.full(len(sizes), float(rounds)), budget - rounds * sizes.sum()
        for k in numpy_rng(rng).permutation(len(sizes)) if rounds < self.most else ():
            if sizes[k] <= left:
                taken[k] += 1
                left -= sizes[k]
        return taken

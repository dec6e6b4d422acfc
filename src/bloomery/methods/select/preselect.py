"""Select `preselect`: documents that read like those whose losses tell good models from bad ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput, near
from bloomery.core.rng import numpy_rng
from bloomery.data.budget import blocks, costs, filled, texts
from bloomery.data.linear import Hashes, learned, logits
from bloomery.seams import Rng


@dataclass(frozen=True)
class Preselect:
    """Trains a linear classifier on the documents of highest and of lowest predictive strength, and takes what it ranks highest.

    P145 Shum et al. 2025, arXiv 2503.00808
    Differs: the strength is a column, by default that of the signal `preselect`; the classifier is a linear one over hashed words and
        pairs, as the signal `classifier` has it, instead of fastText. Documents of equal strength come in random order; how many are
        taken is the budget's, where the paper keeps a tenth.
    Costs: ten passes over the words of the documents that it learns from, whose hashes wait in a file, two over all texts.
    """

    column: str = "preselect.strength"  # a signal's column, of which some documents may have none
    share: float = 0.25  # of the documents that have a strength: so many of the highest are good, so many of the lowest bad
    buckets: int = 1_048_576  # weights of the classifier
    reads = ("text",)  # columns beside the numbers of a document

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5:
            raise ValueError(f"share must be above 0 and at most 0.5, not {self.share}")
        if not 2 <= self.buckets <= 1 << 28:
            raise ValueError("buckets must be from 2 to 2^28")

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """1 or 0 for each document (float64); `columns` hold text, cost and the strength. BadInput where strengths do not differ."""
        if self.column not in columns:
            raise BadInput(f"select: preselect: there is no column {self.column!r}; {near(self.column, list(columns))}")
        read, draw = texts(columns, "preselect"), numpy_rng(rng)
        scores = logits(read, self.classifier(read, *self.extremes(np.asarray(columns[self.column], np.float64), draw)))
        return filled(np.lexsort((draw.random(len(read)), -scores)), costs(columns), budget)

    def classifier(self, read: Sequence[str], low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Weights that tell the texts `high` from the texts `low`; texts are gone through once."""
        wanted, begin = np.zeros(len(read), bool), 0
        wanted[low] = wanted[high] = True
        places = np.cumsum(wanted) - 1
        with Hashes(getattr(read, "folder", None)) as held:
            for some in blocks(read):
                held.add([some[k] for k in np.flatnonzero(wanted[begin : begin + len(some)])])
                begin += len(some)
            return learned(held, places[high], places[low], self.buckets)

    def extremes(self, strengths: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the lowest and of the highest strengths. BadInput where all are the same, or fewer than two are known."""
        known = np.flatnonzero(np.isfinite(strengths))
        if len(known) < 2 or np.ptp(strengths[known]) == 0:
            which = "fewer than two documents have one" if len(known) < 2 else "all documents have the same"
            raise BadInput(f"select: preselect: {self.column} tells nothing apart, {which}; ask more models, or on more documents")
        order = known[np.lexsort((draw.random(len(known)), strengths[known]))]
        count = max(1, int(self.share * len(known)))
        return order[:count], order[-count:]

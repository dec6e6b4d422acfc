"""Select `dsir`: documents that are likelier under a target's words than under the pool's, drawn by their importance weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.data.budget import blocks, costs, filled, targets, texts
from bloomery.num.hashed_ngrams import distribution, hashed
from bloomery.seams import Rng


@dataclass(frozen=True)
class Dsir:
    """Draws documents without replacement by p(target) / p(pool), both bags of hashed words and pairs, until the budget is full.

    P326 Xie et al. 2023, arXiv 2302.03169
    Differs: the target's sample is those documents of the sources whose `column` says so, which are not chosen themselves; both bags are
    smoothed by a fixed count; a document that would overflow the budget is passed over.
    Costs: two passes over the texts, at 75 MB/s of one core each; a number for each bucket and document is held.
    """

    target: str = "target"  # what `column` says of the documents that show what is wanted
    column: str = "domain"  # a column of text
    buckets: int = 10_000  # of the hash
    ngrams: int = 2  # words of the longest feature
    smoothing: float = 0.01  # added to the count of every bucket
    drawn: bool = True  # by Gumbel noise on the log-weights; else the highest weights are taken
    reads = ("text",)  # columns beside the numbers of a document

    def __post_init__(self) -> None:
        if min(self.buckets, self.ngrams) < 1 or self.smoothing <= 0:
            raise ValueError("buckets and ngrams must be at least 1, smoothing above 0")

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """1 or 0 for each document (float64); `columns` hold text, cost and `column`. BadInput without a target."""
        wanted = targets(columns, self.column, self.target, "dsir")
        weights = self.log_weights(texts(columns, "dsir"), wanted)
        noise = numpy_rng(rng).gumbel(size=len(weights)) if self.drawn else 0.0
        order = np.argsort(-np.where(wanted, -np.inf, weights + noise), kind="stable")
        return filled(order[: int((~wanted).sum())], costs(columns), budget)

    def log_weights(self, texts: Sequence[str], wanted: np.ndarray) -> np.ndarray:
        """log p(target) - log p(pool) of each text, summed over its n-grams; the pool is all that is not the target."""
        target, pool, begin = np.zeros(self.buckets), np.zeros(self.buckets), 0
        for some in blocks(texts):
            features, rows = hashed(some, self.buckets, self.ngrams), wanted[begin : begin + len(some)]
            target += features.counts(rows)
            pool += features.counts(~rows)
            begin += len(some)
        values = np.log(distribution(target, self.smoothing)) - np.log(distribution(pool, self.smoothing))
        totals = [np.zeros(1)]
        for some in blocks(texts):
            totals.append(hashed(some, self.buckets, self.ngrams).running(values, float(totals[-1][-1]))[1:])
        return np.diff(np.concatenate(totals))

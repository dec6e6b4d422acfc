"""Select `rds_plus`: documents whose hidden states are most like those of a few that show what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bloomery.core.errors import BadInput, near
from bloomery.data.budget import costs, targets
from bloomery.num.nearest import Some, nearest
from bloomery.seams import Rng

MORE = 4  # times as many neighbours as turns would need that never meet


@dataclass(frozen=True)
class RdsPlus:
    """Documents of the target in turn each take the one most like them that is left, by the cosine of a model's weighted mean states.

    P324 Ivison et al. 2025, arXiv 2503.01807
    Differs: documents instead of conversations, read whole, in pieces of the model's context, instead of 2048 tokens. The target's are
        those of the sources whose `column` says so; they are not chosen themselves. The first document that would overflow the budget
        ends the turns, and none that is larger than it by itself takes part.
    Costs: one forward pass of the model over all texts; products of the vectors of target and pool, of which those of the target are held.
    """

    target: str = "target"  # what `column` says of the documents that show what is wanted
    column: str = "domain"  # a column of text
    task: str = ""  # a column that says which task a document of the target shows: then tasks take turns, by the best of their documents
    pooling: Literal["weighted", "mean"] = "weighted"  # how the states of a text's tokens weigh: by their place, or all the same
    model: str = "encoder"  # role of the model

    @property
    def needs(self) -> tuple[str, ...]:
        return (f"embed:{self.model}:{self.pooling}",)

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """1 or 0 for each document (float64); `columns` hold the vectors, cost and `column`. BadInput without a target."""
        wanted = targets(columns, self.column, self.target, "rds_plus")
        if self.task and self.task not in columns:
            raise BadInput(f"select: rds_plus: there is no column {self.task!r}; {near(self.task, list(columns))}")
        groups = np.arange(wanted.sum())
        if self.task:
            groups = np.unique(np.asarray(columns[self.task], str)[wanted], return_inverse=True)[1]
        vectors, sizes, weights = columns[self.needs[0]], costs(columns), np.zeros(len(wanted))
        pool = np.flatnonzero(~wanted & (sizes <= budget))
        if len(pool):
            weights[pool[chosen(vectors[wanted], Some(vectors, pool), groups, sizes[pool], budget)]] = 1.0
        return weights


def chosen(queries: np.ndarray, pool: np.ndarray | Some, groups: np.ndarray, sizes: np.ndarray, budget: float) -> list[int]:
    """Rows of the pool as turns take them. So many neighbours are looked up as these turns, which are the same for more, come to."""
    fit = int(np.searchsorted(np.cumsum(np.sort(sizes)), budget, side="right"))  # documents at most
    count = MORE * (2 + fit // (int(groups.max()) + 1))
    while True:
        taken, ended = turns(nearest(queries, pool, groups, count), sizes, budget)
        if ended or count >= len(pool):
            return taken
        count *= MORE


def turns(ranked: np.ndarray, sizes: np.ndarray, budget: float) -> tuple[list[int], bool]:
    """What takers with these ranked rows (takers, rows) take, one after the other, and whether the budget ended it, not a taker's rows."""
    gone, places, taken = np.zeros(len(sizes), bool), [0] * len(ranked), []
    while True:
        for taker, rows in enumerate(ranked):
            while places[taker] < len(rows) and gone[rows[places[taker]]]:
                places[taker] += 1
            if places[taker] == len(rows):
                return taken, False
            row = int(rows[places[taker]])
            if sizes[row] > budget:
                return taken, True
            gone[row] = True
            budget -= int(sizes[row])
            taken.append(row)

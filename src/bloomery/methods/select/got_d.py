"""Select `got_d`: documents that move what a model was trained on towards a target, by the gradient of their transport cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng
from bloomery.data.budget import costs, filled, marked, targets
from bloomery.num.nearest import BLOCK, Some, unit
from bloomery.num.transport import potentials, soft_minimum, squared
from bloomery.seams import Rng


@dataclass(frozen=True)
class GotD:
    """Takes the documents along which the optimal transport cost from the training text to the target falls fastest.

    P337 Kang et al. 2024, arXiv 2405.02774
    Differs: vectors are mean hidden states of a model, costs the squared distances of unit vectors. Transport is computed between
        samples of both sides, and its potential is extended to every candidate by the soft minimum that it is of the target's one.
        The text of pre-training may be named by `base`; otherwise the candidates stand for it, as in the paper.
    Costs: one forward pass of the model over all texts; some hundred passes over a matrix of `sample` by `sample`.
    """

    target: str = "target"  # what `column` says of the documents that show what is wanted
    base: str = ""  # what it says of text that the model was trained on, which is not chosen itself; empty: the candidates
    column: str = "domain"  # a column of text
    sample: int = 1024  # documents of each side, at most, between which transport is computed
    epsilon: float = 0.05  # weight of the entropic term, in mean costs
    pooling: Literal["weighted", "mean"] = "mean"  # how the states of a text's tokens weigh: by their place, or all the same
    model: str = "encoder"  # role of the model

    def __post_init__(self) -> None:
        if self.sample < 2 or self.epsilon <= 0:
            raise ValueError("sample must be at least 2, epsilon above 0")

    @property
    def needs(self) -> tuple[str, ...]:
        return (f"embed:{self.model}:{self.pooling}",)

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """1 or 0 for each document (float64); `columns` hold the vectors, cost and `column`. BadInput without a target, or a base."""
        wanted = targets(columns, self.column, self.target, "got_d")
        based = marked(columns, self.column, self.base, "got_d", "the base") if self.base else ~wanted
        candidates = np.flatnonzero(~wanted & ~based if self.base else ~wanted)
        if not len(candidates):
            raise BadInput("select: got_d: all documents are of the target or of the base; the sources must hold candidates too")
        draw, vectors = numpy_rng(rng), columns[self.needs[0]]
        sides = [unit(vectors[_some(np.flatnonzero(side), self.sample, draw)]) for side in (based, wanted)]
        slopes = gradients(*sides, Some(vectors, candidates), self.epsilon)
        return filled(candidates[np.argsort(slopes, kind="stable")], costs(columns), budget)


def gradients(base_ND: np.ndarray, target_MD: np.ndarray, candidates_KD: np.ndarray | Some, epsilon: float) -> np.ndarray:
    """Change of the transport cost from base to target (unit vectors) with the mass of each candidate, (K,), the others' mean taken off:
    what is below 0 brings the base nearer to the target."""
    cost = squared(base_ND, target_MD)
    masses = [np.full(len(side), 1 / len(side)) for side in (base_ND, target_MD)]
    entropic = epsilon * max(float(cost.mean()), 1e-12)
    _, g = potentials(cost, *masses, entropic)
    blocks = (unit(candidates_KD[at : at + BLOCK]) for at in range(0, len(candidates_KD), BLOCK))
    slopes = np.concatenate([soft_minimum(squared(x, target_MD), g, np.log(masses[1]), entropic) for x in blocks])
    return (slopes - slopes.mean()) * len(slopes) / max(1, len(slopes) - 1)


def _some(rows: np.ndarray, most: int, draw: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(draw.choice(rows, most, replace=False))

"""Signal `classifier`: whether a document reads like one set of documents or like another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bloomery.data.linear import logits, trained
from bloomery.data.named import texts
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Classifier:
    """Probability that a document belongs to the good one of two named sets: logistic regression over hashed words and word pairs.

    Source: Joulin et al. 2016, arXiv 1607.01759 (fastText); as a quality filter Brown et al. 2020, arXiv 2005.14165, and DCLM, 2406.11794.
    Differs: a linear model without an embedding, trained on the spot, the two sets weighing the same whatever their sizes; words of any
        script in lower case, of those without spaces each character; features are scaled by the root of their number.
        Deterministic: the same sets in any worker give the same numbers.
    Costs: training reads both sets once in every worker and goes over them ten times; scoring is one pass over the words.
    """

    good: str = ""  # address of documents to be like, such as good/*.jsonl; there must be some
    bad: str = ""  # address of documents not to be like
    buckets: int = 1_048_576  # weights
    outside = ("good", "bad")
    required = ("good", "bad")

    def __post_init__(self) -> None:
        if not 2 <= self.buckets <= 1 << 28:
            raise ValueError("buckets must be from 2 to 2^28")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """good (probability), logit."""
        found = logits([doc.text for doc in docs], _trained(self.good, self.bad, self.buckets)) if docs else np.zeros(0)
        return {"good": 1 / (1 + np.exp(-np.clip(found, -500, 500))), "logit": found}


@lru_cache(maxsize=2)
def _trained(good: str, bad: str, buckets: int) -> np.ndarray:
    return trained(texts(good, "classifier.good"), texts(bad, "classifier.bad"), buckets)

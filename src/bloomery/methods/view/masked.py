from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.core.rng import numpy_rng
from bloomery.seams import Clock, Doc, Rng, Vocab


@dataclass(frozen=True)
class Masked:
    """Some tokens are hidden and are to be named from both sides: inputs and targets stand at the same positions.

    Devlin et al. 2018, BERT, arXiv 1810.04805
    Differs: masks are drawn anew whenever a piece is read; the first token of a piece is left out, so that pieces are as long as those
    of the causal view; of a document with spans only the tokens within them are hidden.
    Costs: only `share` of the tokens are trained; wants a model that is not causal.
    """

    share: float = 0.15  # share of the tokens that are to be named, at least one of a piece
    keep: float = 0.1  # share of those that the model sees unchanged
    random: float = 0.1  # share of those that are replaced by any token of the vocabulary; the rest are hidden by a mask
    marks: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")
        if min(self.keep, self.random) < 0 or self.keep + self.random > 1:
            raise ValueError(f"keep and random must not be negative, nor above 1 together, got {self.keep} and {self.random}")

    def view(self, ids: Sequence[int], doc: Doc | None, vocab: Vocab, clock: Clock, rng: Rng) -> list[dict[str, Any]]:
        """n + 1 tokens become the last n of them, some hidden, with the tokens themselves as targets; weights are 1, or those of the
        document's spans, where a token is to be named and 0 elsewhere. BadInput for a vocabulary without a spare id."""
        if not vocab.spare:
            raise BadInput("view: masked needs a spare token as its mask and the vocabulary has none; say `spare: 1` at the tokenize step")
        ids = np.asarray(ids, np.int64)
        allowed = np.ones(len(ids), np.float32)
        if doc is not None and doc.spans:
            allowed[:] = 0
            for start, stop, weight in doc.spans:
                allowed[start:stop] = weight
        targets, allowed = ids[1:], allowed[1:]
        (open_,) = np.nonzero(allowed)
        if not len(targets):
            return []
        draw = numpy_rng(rng)
        chosen = draw.choice(open_, min(len(open_), max(1, round(self.share * len(open_)))), replace=False)
        fate = draw.random(len(chosen))
        anything = draw.integers(vocab.size, size=len(chosen))
        inputs, weights = targets.copy(), np.zeros(len(targets), np.float32)
        weights[chosen] = allowed[chosen]
        masked = fate >= self.keep + self.random
        inputs[chosen[masked]] = vocab.spare[0]
        swapped = (fate >= self.keep) & ~masked
        inputs[chosen[swapped]] = anything[swapped]
        return [{"inputs": inputs, "targets": targets, "weights": weights, "positions": np.arange(len(targets))}]

"""Signal `preselect`: how well the losses of several models on a document tell which of them is better at its tasks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from bloomery.core.errors import BadInput
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Preselect:
    """Predictive strength: the share of pairs of models of which the better one at the tasks has the lower loss on the document.

    P145 Shum et al. 2025, arXiv 2503.00808
    Differs: the sample is chosen by a hash of the document's id, so that it is the same for any worker. Losses of one document are
        compared, so that normalising them by its length changes nothing; equal ones count one half.
    Costs: one forward pass of each model over the sampled documents.
    """

    models: tuple[str, ...] = ("worst", "middle", "best")  # roles, from the model that does worst on the tasks to the one that does best
    sample: float = 1.0  # share of the documents on which the models are asked; the others have no strength

    def __post_init__(self) -> None:
        if len(self.models) < 2 or len(set(self.models)) < len(self.models) or not all(self.models):
            raise ValueError("models must name two roles or more, each once, from the worst to the best")
        if not 0 < self.sample <= 1:
            raise ValueError(f"sample must be above 0 and at most 1, not {self.sample}")

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(f"score:{role}" for role in self.models)

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """strength (0 to 1; nan where the models were not asked)."""
        if docs and tools is None:
            raise BadInput(f"preselect asks models in the roles {', '.join(self.models)}; name them under `roles` of a curate step")
        asked = [doc for doc in docs if zlib.crc32(doc.id.encode("utf-8", "surrogatepass")) < self.sample * 2**32]
        nats = []
        for role in self.models if asked else ():
            nats.append([-math.fsum(logp) for logp in tools.score([("", doc.text) for doc in asked], role)])
        found = {id(doc): strength(losses) for doc, losses in zip(asked, zip(*nats, strict=True), strict=True)}
        return {"strength": [found.get(id(doc), math.nan) for doc in docs]}


def strength(losses: Sequence[float]) -> float:
    """Of losses of models from the worst to the best: the share of pairs in which the better model has the lower one."""
    pairs = [1.0 if worse > better else 0.5 if worse == better else 0.0 for worse, better in combinations(losses, 2)]
    return sum(pairs) / len(pairs)

"""Signal `miniplm`: how much better a large model knows a document than a small one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Miniplm:
    """Log-likelihood of a document under a large teacher and a small reference model, in nats per byte, and their difference.

    P208 Gu et al. 2024, arXiv 2410.17215
    Differs: the difference is divided by the document's bytes, because documents here are not cut to one length, and so that models
        of different tokenizers compare; which share of the documents stays is the recipe's, by `select: {top: {column: miniplm.gain}}`.
    Costs: one forward pass of each model over the text.
    """

    needs = ("score:teacher", "score:reference")

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """gain (teacher minus reference; high: learnable and not yet easy), teacher, reference; 0 for a document without text."""
        if docs and tools is None:
            raise BadInput("miniplm asks models in the roles teacher and reference; name them under `roles` of a curate step")
        sizes = [max(1, len(doc.text.encode("utf-8", "surrogatepass"))) for doc in docs]
        found: dict[str, Sequence[float]] = {}
        for role in ("teacher", "reference"):
            scores = tools.score([("", doc.text) for doc in docs], role) if docs else []
            found[role] = [math.fsum(logp) / size for logp, size in zip(scores, sizes, strict=True)]
        return {"gain": [a - b for a, b in zip(found["teacher"], found["reference"], strict=True)], **found}

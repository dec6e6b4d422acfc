"""Signal `perplexity`: how well a model knows a document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a document under a model, and its nats for each byte, which compare between models of different tokenizers.

    Source: Marion et al. 2023, arXiv 2309.04564 (pruning by perplexity).
    Differs: any model that the recipe binds to the role reference; which share stays is the recipe's, by `keep` or `select: top`.
    Costs: one forward pass of the model over the text.
    """

    needs = ("score:reference",)

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """perplexity (of a token), nats (for each byte), tokens; perplexity 1 and nats 0 for a document without text."""
        if docs and tools is None:
            raise BadInput("perplexity asks a model in the role reference; name it under `roles` of a curate step")
        scores = tools.score([("", doc.text) for doc in docs], "reference") if docs else []
        nats = [-math.fsum(logp) for logp in scores]
        sizes = [max(1, len(doc.text.encode("utf-8", "surrogatepass"))) for doc in docs]
        return {
            "perplexity": [math.exp(min(700.0, total / max(1, len(logp)))) for total, logp in zip(nats, scores, strict=True)],
            "nats": [total / size for total, size in zip(nats, sizes, strict=True)],
            "tokens": [len(logp) for logp in scores],
        }

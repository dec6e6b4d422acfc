"""How good a ranking of documents is, and of pieces of a document by the tokens that they hold.

Sources: nDCG is that of Järvelin & Kekäläinen 2002, doi 10.1145/582415.582418, with gains of 0 and 1; measures by tokens, and the ceiling
that pieces set, are those of P319 Jadon et al. 2025, arXiv 2502.15854.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def ndcg(ranked: Sequence[bool], relevant: int, most: int = 10) -> float:
    """Discounted gain of the first `most` over that of the best ranking; `ranked` says of each place whether it is relevant, `relevant`
    how many documents are, found or not. ValueError for none, or fewer than are ranked."""
    if relevant < max(1, sum(ranked)):
        raise ValueError(f"as many relevant documents as are ranked are needed, at least one: got {relevant} and {sum(ranked)} ranked")
    gain = math.fsum(1 / math.log2(place + 2) for place, good in enumerate(ranked[:most]) if good)
    return gain / math.fsum(1 / math.log2(place + 2) for place in range(min(relevant, most)))


def recall(ranked: Sequence[bool], relevant: int, most: int) -> float:
    """Share of the relevant documents that stand among the first `most`."""
    return sum(ranked[:most]) / relevant


def overlap(retrieved: Collection[int], wanted: Collection[int]) -> dict[str, float]:
    """precision, recall and iou of sets of tokens by their places."""
    both = len(set(retrieved) & set(wanted))
    either = len(set(retrieved) | set(wanted))
    return {
        "precision": both / len(set(retrieved)) if retrieved else 0.0,
        "recall": both / len(set(wanted)) if wanted else 0.0,
        "iou": both / either if either else 0.0,
    }


def ceiling(pieces: Sequence[Collection[int]], wanted: Collection[int]) -> float:
    """Precision where exactly those pieces are retrieved that hold wanted tokens (precision omega): what the cutting allows."""
    holding = [one for one in pieces if set(one) & set(wanted)]
    return overlap([place for one in holding for place in one], wanted)["precision"]

"""What of a document is trained (seams.Doc.spans), on its way from an edit to the shards: written, read, counted in tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bloomery.seams import Doc

Spans = Sequence[tuple[int, int, float]]


def still(before: Doc, after: Doc) -> Doc:
    """A document after a change; where nothing of what was to be trained is left it is trained on nothing: without spans it would be
    trained on as a whole. One of another id is a new document, whose spans are its own."""
    gone = before.spans and not after.spans and before.id == after.id
    return replace(after, spans=[(0, len(after.text), 0.0)]) if gone else after


def in_tokens(spans: Spans, places: Sequence[tuple[int, int]]) -> list[tuple[int, int, float]]:
    """Spans counted in tokens of a framed document: `places` are where each token between the begin and the end token stands, as `spans`
    count. A token that holds anything of a span is in it; the end token is in the span that holds the text's end."""
    import numpy as np

    if not len(places):
        return [(0, 2, weight) for _, _, weight in spans]
    begins, ends = np.asarray(places, np.int64).T
    found = []
    for start, stop, weight in spans:
        first, last = int(np.searchsorted(ends, start, "right")), int(np.searchsorted(begins, stop, "left"))
        found.append((first + 1, last + 1 + (stop >= ends[-1]), weight))
    return found


def listed(spans: Sequence[Spans]) -> Any:
    """Ranges of documents, (start, stop, weight), as an Arrow array."""
    import pyarrow as pa

    kind = pa.list_(pa.struct({"start": pa.int64(), "stop": pa.int64(), "weight": pa.float32()}))
    return pa.array([[{"start": int(a), "stop": int(b), "weight": float(weight)} for a, b, weight in one] for one in spans], kind)


def ranges(values: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, float]]:
    """The ranges of a document, from its value in such an array."""
    return [(one["start"], one["stop"], one["weight"]) for one in values]

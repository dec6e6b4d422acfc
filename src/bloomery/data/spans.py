"""Changing a text at some places while its marked ranges stay on what they marked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from bloomery.seams import Doc

Change = tuple[int, int, str]  # start, stop, and what stands there instead


def changed(doc: Doc, changes: Sequence[Change]) -> Doc:
    """The document with every change made; `changes` do not overlap and are places of the old text. The very document where nothing
    changes. A span whose end falls into a changed place is drawn to that place's border, outwards; one that holds nothing more goes."""
    ordered = sorted(changes)
    if any(a[1] > b[0] for a, b in pairwise(ordered)):
        raise ValueError("changes overlap")
    pieces, at = [], 0
    for start, stop, text in ordered:
        pieces += [doc.text[at:start], text]
        at = stop
    text = "".join([*pieces, doc.text[at:]])
    if text == doc.text:
        return doc
    starts = [start for start, _, _ in ordered]
    grown = [0]  # by how much what stands after the k-th change has moved
    for start, stop, instead in ordered:
        grown.append(grown[-1] + len(instead) - (stop - start))

    def moved(place: int, end: bool) -> int:
        k = bisect_right(starts, place - 1 if end else place)
        if k:
            start, stop, instead = ordered[k - 1]
            if place < stop or (end and place == stop):  # inside, or just at its end
                return start + grown[k - 1] + (len(instead) if end else 0)
        return place + grown[k]

    spans = [(moved(start, False), moved(stop, True), weight) for start, stop, weight in doc.spans]
    return replace(doc, text=text, spans=[span for span in spans if span[0] < span[1]])

"""Selections that read texts go through them as they lie on disk: the answers of lists, and memory that does not grow with the text."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from bloomery.core import catalog
from bloomery.data import budget, linear
from bloomery.methods.select import metaclip, r2d2
from bloomery.num import hashed_ngrams
from bloomery.seams import Rng

KNOBS = {
    "dsir": {"buckets": 4096},
    "metaclip": {"entries": ["row1", "3,4", "é", "w77"]},
    "preselect": {"buckets": 4096, "share": 0.5},
    "r2d2": {},
}
WORDS = np.array([f"w{k}é" if k % 9 == 0 else f"w{k}" for k in range(300)])


def document(k: int, words: int) -> str:
    """Words and tables in turn; some tables hold those of 40 documents later."""
    if k % 2:
        return f"doc {k} " + " ".join(WORDS[np.random.default_rng(k).integers(0, 100 + 200 * (k % 4 // 2), words)].tolist())
    return "\n".join([f"key,{k % 40},last", *(f"row{k // 80},{n},{n + 1}" for n in range(words // (3 + k % 3)))])


class Packed(Sequence[str]):
    """Documents as bytes, of which a text is made each time that it is asked for."""

    def __init__(self, count: int, words: int) -> None:
        self.documents = [document(k, words).encode() for k in range(count)]

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, k: int) -> str:
        return self.documents[k].decode()

    def __iter__(self) -> Iterator[str]:
        return (document.decode() for document in self.documents)


def columns(texts: Sequence[str]) -> dict[str, Any]:
    places = np.arange(len(texts))
    domain = np.where(places % 5 == 0, "target", "pool").astype(object)
    return {"text": texts, "domain": domain, "bytes": 500 + places % 7, "preselect.strength": places % 4 // 2 + places % 2 / 9}


@pytest.mark.parametrize("name", KNOBS)
def test_exact_part_by_part_is_all_at_once(name, monkeypatch):
    method, texts = catalog.build_method("select", {name: KNOBS[name]}), Packed(200, 40)
    whole = method.weigh(columns(list(texts)), 20_000, Rng((0,)))
    assert 0 < whole.sum() < 200
    for module, limit, small in ((budget, "BLOCK", 700), (linear, "HELD", 1024), (metaclip, "PART", 9), (r2d2, "HELD", 20)):
        monkeypatch.setattr(module, limit, small)
    assert np.array_equal(method.weigh(columns(texts), 20_000, Rng((0,))), whole)


@pytest.mark.parametrize("name", KNOBS)
def test_memory_does_not_grow_with_the_text(name, monkeypatch):
    """Three megabytes of text, and a fifth of it is allowed: less than features of all, or lists of all cells, would take."""
    for module, limit, small in ((budget, "BLOCK", 1 << 14), (linear, "HELD", 1 << 14), (r2d2, "HELD", 1 << 10)):
        monkeypatch.setattr(module, limit, small)
    method, given = catalog.build_method("select", {name: KNOBS[name]}), columns(Packed(800, 1000))
    method.weigh(columns(Packed(20, 10)), 5000, Rng((0,)))  # compiles
    hashed_ngrams.hashed(["a"], 7)
    tracemalloc.start()
    try:
        method.weigh(given, 200_000, Rng((0,)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(map(len, given["text"].documents))
    assert size > 3e6 and peak < size / 5

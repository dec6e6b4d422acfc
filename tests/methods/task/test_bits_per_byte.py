"""Bits per byte: a model of known probabilities has known bits."""

from __future__ import annotations

import math

import pytest

from bloomery.methods.task.bits_per_byte import BitsPerByte
from bloomery.seams import Doc, Episode, Rng, Source

RNG = Rng((3,))
DOCS = [Doc(f"d{i}", "aé" * (i + 1), {"package": f"p{i % 3}"}) for i in range(12)]


def test_uniform_over_bytes_is_eight_bits_per_byte() -> None:
    task = BitsPerByte()
    items = list(task.items(Source(docs=DOCS), RNG))
    rows = []
    for item in items:
        episode = Episode(item.id, item.id, logp=(-math.log(256),) * len(item.target.encode()))
        rows.append((item, episode, task.grade(item, episode, None)))
    found = task.summary(rows, RNG)
    assert found["bits_per_byte"] == pytest.approx(8)
    assert found["bits_per_byte.low"] == pytest.approx(8)
    assert found["bits_per_byte.n"] == 12


def test_summary_divides_sums_and_does_not_average_ratios() -> None:
    task = BitsPerByte()
    rows = []
    for item, bits in zip(task.items(Source(docs=DOCS[:2]), RNG), (30, 60), strict=True):
        episode = Episode(item.id, item.id, logp=(-bits * math.log(2),))
        rows.append((item, episode, task.grade(item, episode, None)))
    assert task.summary(rows, RNG)["bits_per_byte"] == pytest.approx(90 / 9)


def test_empty_documents_are_passed_over_also_where_none_fits() -> None:
    docs = [Doc("empty", "", {}), *DOCS]
    assert [item.id for item in BitsPerByte(bytes=1).items(Source(docs=docs), RNG)] == ["d0"]
    assert list(BitsPerByte().items(Source(docs=docs[:1]), RNG)) == []


def test_items_keep_to_the_limit_and_are_whole_documents() -> None:
    items = list(BitsPerByte(bytes=40).items(Source(docs=DOCS), RNG))
    assert 0 < sum(len(item.target.encode()) for item in items) <= 40
    assert all(item.target in {doc.text for doc in DOCS} and item.want == "score" and item.group for item in items)
    assert [i.id for i in items] == [i.id for i in BitsPerByte(bytes=40).items(Source(docs=DOCS[::-1]), RNG)]
    assert [i.id for i in BitsPerByte(bytes=2).items(Source(docs=DOCS), RNG)] == ["d0"]


def test_knobs_are_checked() -> None:
    with pytest.raises(ValueError, match="bytes"):
        BitsPerByte(bytes=0)

"""Rows to tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.data.shards import Shards, write_shards
from bloomery.methods.batching.packed import Packed
from bloomery.methods.view.causal import Causal
from bloomery.seams import Clock, Rng, Vocab
from bloomery.train.batches import Feed, lay, micro_rows, stack

VOCAB = Vocab(60000, 0, 1, 2)


def shards(folder: Path, lengths: list[int]) -> Shards:
    """Document i holds the tokens i * 100, i * 100 + 1, ..."""
    write_shards(folder, [({"id": f"d{i}", "bytes": n}, np.arange(n) + 100 * i) for i, n in enumerate(lengths)], 60000)
    return Shards(folder)


def test_targets_follow_inputs_within_one_document(tmp_path: Path) -> None:
    feed = Feed(shards(tmp_path, [30, 5, 60, 2, 17]), Packed(16), Causal(), 16, 2, Rng((0,)), VOCAB)
    seen = []
    for step in range(4):
        micros = feed.next(Clock(step, 0, 64, None))
        assert [m.inputs.shape for m in micros] == [(2, 16), (2, 16)]
        for m in micros:
            assert torch.equal(m.targets, m.inputs + 1) and bool((m.weights == 1).all())
            same = m.documents[:, 1:] == m.documents[:, :-1]
            assert torch.equal(m.positions[:, 1:][same], m.positions[:, :-1][same] + 1)
            assert not m.positions[:, 1:][~same].any() and torch.equal(same, (m.inputs[:, 1:] == m.inputs[:, :-1] + 1) & same)
            seen += m.targets.flatten().tolist()
    total = sum(n - 1 for n in (30, 5, 60, 2, 17))
    assert len(set(seen[: -(-total // 16) * 16])) == total
    assert set(feed.names()) <= {f"d{i}" for i in range(5)}


def test_state_resumes_the_stream(tmp_path: Path) -> None:
    docs = shards(tmp_path, [30, 5, 60, 2, 17])
    whole, first = (Feed(docs, Packed(8), Causal(), 8, 4, Rng((0,)), VOCAB) for _ in range(2))
    clocks = [Clock(step, 0, 32, None) for step in range(6)]
    wanted = [whole.next(clock)[0].inputs for clock in clocks]
    for clock in clocks[:3]:
        first.next(clock)
    again = Feed(docs, Packed(8), Causal(), 8, 4, Rng((0,)), VOCAB)
    again.state = first.state
    for clock, inputs in zip(clocks[3:], wanted[3:], strict=True):
        assert torch.equal(again.next(clock)[0].inputs, inputs)


def test_padding_and_overflow() -> None:
    view = Causal().view(np.arange(4), None, VOCAB, Clock(0, 0, 1, None), Rng((0,)))
    got = stack([lay(view * 2, 8)])
    assert got.documents.tolist() == [[0, 0, 0, 1, 1, 1, -1, -1]] and got.weights.sum() == 6
    with pytest.raises(ValueError, match="context"):
        lay(view * 3, 8)


def test_micro_rows_divide_the_step() -> None:
    assert [micro_rows(rows, wish, 512) for rows, wish in ((8, 0), (64, 0), (6, 4), (7, 3), (5, 9))] == [8, 16, 3, 1, 5]


def test_only_marked_tokens_are_trained(tmp_path: Path) -> None:
    marks = [[(3, 6, 1.0), (8, 10, 0.5)], [(0, 4, 1.0)], [(9, 9, 1.0)]]
    documents = [({"id": f"d{i}", "bytes": 10, "spans": spans}, np.arange(10) + 100 * i) for i, spans in enumerate(marks)]
    write_shards(tmp_path, documents, 60000)
    feed = Feed(Shards(tmp_path), Packed(9), Causal(), 9, 1, Rng((0,)), VOCAB)
    for step in range(3):
        (micro,) = feed.next(Clock(step, 0, 9, None))
        for target, weight in zip(micro.targets.flatten().tolist(), micro.weights.flatten().tolist(), strict=True):
            wanted = sum(weight for start, stop, weight in marks[target // 100] if start <= target % 100 < stop)
            assert weight == wanted, target


def test_a_piece_outside_all_marks_trains_nothing(tmp_path: Path) -> None:
    write_shards(tmp_path, [({"id": "d", "bytes": 20, "spans": [(15, 20, 1.0)]}, np.arange(20))], 60000)
    feed = Feed(Shards(tmp_path), Packed(4), Causal(), 4, 1, Rng((0,)), VOCAB)
    weights = {
        tuple(view["targets"]): view["weights"].sum()
        for start in range(0, 19, 4)
        for view in feed.views([(0, start, start + 4)], Clock(0, 0, 4, None))
    }
    assert [weights[key] for key in sorted(weights)] == [0, 0, 0, 2, 3]

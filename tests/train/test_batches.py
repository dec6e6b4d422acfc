"""Rows to tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.shards import Shards, write_shards
from bloomery.methods.batching.packed import Packed
from bloomery.methods.view.causal import Causal
from bloomery.seams import Clock, Pool, Rng, Vocab
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


def test_a_place_in_the_text_belongs_to_its_documents_rows_and_order(tmp_path: Path) -> None:
    """Two numbers would be somewhere in any text: a run that goes on with another would leave out what stands before them."""

    def order(lengths: list[int], row: int = 16, seed: int = 0, name: str = "") -> str:
        where = tmp_path / f"{len(lengths)}{name}"
        return Feed(shards(where, lengths), Packed(), Causal(), row, 2, Rng((seed,)), VOCAB).order()

    first = order([30, 5, 60])
    assert order([30, 5, 60], name="again") == first
    assert len({first, order([30, 60, 5]), order([30, 5, 60, 7]), order([30, 5, 60], row=8), order([30, 5, 60], seed=1)}) == 5


class Doubled(Causal):
    """Each token twice, which needs a spare id and half of the row."""

    marks = 1

    def room(self, row):
        return row // 2

    def view(self, ids, doc, vocab, clock, rng):
        return super().view(np.repeat(ids, 2)[:-1], doc, vocab, clock, rng)


def test_a_view_that_adds_gets_shorter_pieces_and_as_many_rows(tmp_path: Path) -> None:
    docs, spare = shards(tmp_path, [30, 5, 60, 2, 17]), Vocab(60000, 0, 1, 2, (7,))
    feed = Feed(docs, Packed(), Doubled(), 16, 2, Rng((0,)), spare)
    micros = feed.next(Clock(0, 0, 64, None))
    assert feed.pool.row == 8 and [m.inputs.shape for m in micros] == [(2, 16), (2, 16)]
    assert all(bool((m.documents >= 0).all()) for m in micros)
    with pytest.raises(BadInput, match="Doubled needs 1 spare tokens and the vocabulary has 0; say `spare: 1`"):
        Feed(docs, Packed(), Doubled(), 16, 2, Rng((0,)), VOCAB)
    with pytest.raises(BadInput, match="no room in rows of 1 tokens"):
        Feed(docs, Packed(), Doubled(), 1, 2, Rng((0,)), spare)


class Uneven(Packed):
    """Rows of 4 inputs in odd steps, of 8 in even ones."""

    uneven = True

    def plan(self, pool, state, clock, rng):
        return super().plan(Pool(pool.lengths, 8 >> clock.step % 2), None, clock, rng)


def test_uneven_steps_are_as_long_as_their_rows_and_micro_batches_as_full(tmp_path: Path) -> None:
    feed = Feed(shards(tmp_path, [30, 5, 60, 2, 17]), Uneven(), Causal(), 16, 2, Rng((0,)), VOCAB)
    for step, length in enumerate((8, 4, 8)):
        micros = feed.next(Clock(step, 0, 64, None))
        assert {tuple(m.inputs.shape) for m in micros} == {(32 // length, length)}
        assert sum(int((m.weights > 0).sum()) for m in micros) == 64


def test_the_pool_knows_the_kinds_of_documents(tmp_path: Path) -> None:
    kinds = ["verse", "prose", "verse", ""]
    write_shards(tmp_path, [({"id": str(i), "bytes": 9, "domain": kind}, np.arange(9)) for i, kind in enumerate(kinds)], 60000)
    pool = Feed(Shards(tmp_path), Packed(), Causal(), 8, 2, Rng((0,)), VOCAB).pool
    assert pool.domains == ("", "prose", "verse") and pool.domain.tolist() == [2, 1, 2, 0] and pool.lengths.tolist() == [8] * 4


def test_padding_and_overflow() -> None:
    view = Causal().view(np.arange(4), None, VOCAB, Clock(0, 0, 1, None), Rng((0,)))
    got = stack([lay(view * 2, 8)])
    assert got.documents.tolist() == [[0, 0, 0, 1, 1, 1, -1, -1]] and got.weights.sum() == 6
    with pytest.raises(ValueError, match="context"):
        lay(view * 3, 8)


def test_micro_rows_divide_the_step() -> None:
    assert [micro_rows(rows, wish, 512) for rows, wish in ((8, 0), (64, 0), (6, 4), (7, 3), (5, 9))] == [8, 8, 3, 1, 5]


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

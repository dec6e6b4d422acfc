"""What a step trains on, shown and refused."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.data.shards import Shards, write_shards
from bloomery.methods.batching.packed import Packed
from bloomery.methods.view.causal import Causal
from bloomery.methods.view.ul2 import Ul2
from bloomery.seams import Clock, Rng, Vocab
from bloomery.train import preview
from bloomery.train.batches import Feed

BOS, EOS = 1, 2
CLOCK = Clock(0, 0, 32, 1000.0)


def feed(tmp_path, documents: list[list[int]], view=None, spare: tuple[int, ...] = ()) -> Feed:
    metas = [{"id": str(i), "package": "p", "path": "p", "bytes": 9} for i in range(len(documents))]
    write_shards(tmp_path, zip(metas, documents, strict=True), 64)
    return Feed(Shards(tmp_path), Packed(), view or Causal(), 16, 2, Rng((0,)), Vocab(64, 0, BOS, EOS, spare))


GOOD = [[BOS, *range(3, 10 + i), EOS] for i in range(8)]


def test_rows_are_what_training_gets(tmp_path):
    shown = list(preview.rows(feed(tmp_path, GOOD), CLOCK, 2))
    (micro,) = feed(tmp_path, GOOD).next(CLOCK)
    assert len(shown) == 2
    for row, targets, weights in zip(shown, micro.targets.tolist(), micro.weights.tolist(), strict=True):
        assert [token for one in row for token in one.ids[1:]] == targets
        assert [weight for one in row for weight in one.weights[1:]] == weights
        assert all(one.weights[0] == 0 for one in row)


def test_a_view_that_hides_is_shown_as_it_is_trained(tmp_path):
    documents = [[BOS, *range(3, 30), EOS] for _ in range(4)]
    shown = feed(tmp_path, documents, Ul2(sentinels=4), spare=tuple(range(50, 57)))
    (micro,) = feed(tmp_path, documents, Ul2(sentinels=4), spare=tuple(range(50, 57))).next(CLOCK)
    rows = list(preview.rows(shown, CLOCK, 2))
    for row, inputs, targets, weights in zip(rows, micro.inputs.tolist(), micro.targets.tolist(), micro.weights.tolist(), strict=True):
        held = sum(len(one.ids) - 1 for one in row)
        assert [token for one in row for token in one.ids[:-1]] == inputs[:held] and not any(weights[held:])
        assert [token for one in row for token in one.ids[1:]] == targets[:held]
        assert [weight for one in row for weight in one.weights[1:]] == weights[:held]
        assert any(50 <= token < 57 for token in inputs)


class Masked(Causal):
    """Says what stands where it reads an id that stands for nothing."""

    def view(self, ids, doc, vocab, clock, rng):
        hidden = np.arange(len(ids)) % 3 == 1
        ids = np.asarray(ids, np.int64)
        return [
            {"inputs": np.where(hidden, 63, ids), "targets": ids, "weights": hidden.astype(np.float32), "positions": np.arange(len(ids))}
        ]


def test_what_is_asked_in_place_is_shown_behind_what_is_read(tmp_path):
    (view,) = Masked().view([BOS, 5, 6, 7, 8, EOS], None, None, CLOCK, None)
    one = preview.piece(view)
    assert one.ids == (BOS, 63, 5, 6, 7, 63, 8, EOS) and one.weights == (0, 0, 1, 0, 0, 0, 1, 0)


def test_sound_text_has_no_faults(tmp_path):
    assert preview.faults(feed(tmp_path, GOOD), CLOCK, BOS, (EOS,)) == []


class Silent(Causal):
    def view(self, ids, doc, vocab, clock, rng):
        return [{**one, "weights": np.zeros_like(one["weights"])} for one in super().view(ids, doc, vocab, clock, rng)]


@pytest.mark.parametrize(
    ("documents", "view", "said"),
    [
        ([[BOS, *one] for one in GOOD], None, "two begin tokens"),
        ([one[:-1] for one in GOOD], None, "end token is never trained"),
        (GOOD, Silent(), "no token of the first step is trained"),
    ],
)
def test_faults_are_named(tmp_path, documents, view, said):
    assert any(said in one for one in preview.faults(feed(tmp_path, documents, view), CLOCK, BOS, (EOS,)))

"""Next-token prediction of one piece."""

from __future__ import annotations

import numpy as np

from bloomery.methods.view.causal import Causal
from bloomery.seams import Clock, Rng, Vocab

VOCAB = Vocab(16, 0, 1, 2)


def test_shifted_by_one() -> None:
    (got,) = Causal().view(np.array([1, 7, 8, 2], np.uint16), None, VOCAB, Clock(0, 0, 1, None), Rng((0,)))
    assert [list(got[k]) for k in ("inputs", "targets", "weights", "positions")] == [[1, 7, 8], [7, 8, 2], [1, 1, 1], [0, 1, 2]]


def test_too_short_pieces_are_nothing() -> None:
    assert [Causal().view(ids, None, VOCAB, Clock(0, 0, 1, None), Rng((0,))) for ids in ([], [5])] == [[], []]

"""Hidden tokens: where they are, what stands there, and how many."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.view.masked import Masked
from bloomery.seams import Clock, Doc, Rng, Vocab

VOCAB = Vocab(64, 0, 1, 2, (60, 61))
NOW = Clock(0, 0, 1, None)


def see(method: Masked, n: int = 400, doc: Doc | None = None, seed: int = 0) -> dict:
    (found,) = method.view(np.arange(n + 1) % 50 + 3, doc, VOCAB, NOW, Rng((seed,)))
    return found


def test_targets_are_the_tokens_themselves_and_only_the_chosen_are_hidden() -> None:
    got = see(Masked(share=0.2, keep=0.0, random=0.0))
    assert (got["targets"] == np.arange(1, 401) % 50 + 3).all() and list(got["positions"]) == list(range(400))
    assert got["weights"].sum() == 80  # exactly, whatever is drawn
    assert ((got["inputs"] == 60) == (got["weights"] > 0)).all()
    assert (got["inputs"][got["weights"] == 0] == got["targets"][got["weights"] == 0]).all()


def test_shares_of_the_chosen() -> None:
    got = see(Masked(share=0.5, keep=0.2, random=0.3), 8000)
    at = got["weights"] > 0
    mask, same = (got["inputs"][at] == 60).mean(), (got["inputs"][at] == got["targets"][at]).mean()
    assert mask == pytest.approx(0.5, abs=0.03) and same == pytest.approx(0.2, abs=0.03)
    assert (see(Masked(), seed=1)["weights"] != see(Masked(), seed=2)["weights"]).any()


def test_spans_short_pieces_and_a_vocabulary_without_a_mask() -> None:
    got = see(Masked(share=1.0, keep=0, random=0), 10, Doc("d", "", spans=[(3, 5, 0.5)]))
    assert list(np.nonzero(got["weights"])[0]) == [2, 3] and got["weights"].sum() == 1.0
    assert Masked().view([5], None, VOCAB, NOW, Rng((0,))) == []
    assert see(Masked(share=0.01), 5)["weights"].sum() == 1
    with pytest.raises(BadInput, match="spare"):
        Masked().view([5, 6], None, Vocab(64, 0, 1, 2), NOW, Rng((0,)))
    for knobs in ({"share": 0.0}, {"keep": 0.6, "random": 0.6}):
        with pytest.raises(ValueError):
            Masked(**knobs)

from __future__ import annotations

import numpy as np

from bloomery.data import budget, linear
from bloomery.data.linear import Hashes, learned, logits, trained


def test_exact_one_word_against_another():
    weights = trained(["good"] * 3, ["bad"], 512)
    assert weights.shape == (513,) and (weights != 0).sum() == 3, "two words and the constant"
    good, bad, other, none = logits(["good", "bad", "other", ""], weights)
    assert good > 1 and bad < -1 and other == none == weights[-1]


def test_property_the_sets_weigh_the_same_and_the_same_texts_give_the_same_bits():
    sets = [[f"a{i % 7} same" for i in range(40)], [f"b{i % 7} same" for i in range(5)]]
    weights = trained(*sets, 4096)
    assert np.array_equal(weights, trained(*sets, 4096))
    assert (logits(sets[0], weights) > 0).all() and (logits(sets[1], weights) < 0).all(), "the smaller set too"
    common, telling = logits(["same", "a1"], weights)
    assert telling > common + 1
    assert logits([], weights).shape == (0,)


def test_property_hashes_in_a_file_and_texts_in_blocks_give_the_same_bits(monkeypatch, tmp_path):
    texts = [f"{'a b'[k % 3]} word{k % 11} same {k}" * (k % 5) for k in range(60)]
    good, bad = np.arange(0, 60, 3)[::-1], np.arange(1, 60, 3)
    sets = [[texts[k] for k in some] for some in (good, bad)]
    weights = trained(*sets, 4096)
    scores = logits(texts, weights)
    monkeypatch.setattr(linear, "HELD", 64)  # eight words
    monkeypatch.setattr(budget, "BLOCK", 30)
    assert np.array_equal(trained(*sets, 4096), weights) and np.array_equal(logits(texts, weights), scores)
    with Hashes(tmp_path) as held:
        for part in budget.blocks(texts):
            held.add(part)
        assert held.file._rolled and np.array_equal(learned(held, good, bad, 4096), weights)
    assert not list(tmp_path.iterdir())

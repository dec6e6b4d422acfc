from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.budget import blocks, filled, targets, texts


def test_what_overflows_is_passed_over():
    sizes = np.array([4, 9, 3, 2])
    assert filled([1, 0, 2, 3], sizes, 7).tolist() == [1, 0, 1, 0]
    assert filled([3, 2], sizes, 100).tolist() == [0, 0, 1, 1] and filled([0, 1], sizes, 3).sum() == 0


def test_texts_and_targets():
    given = {"text": ("a", "b"), "kind": np.array(["x", "y"], object)}
    assert list(texts(given, "it")) == ["a", "b"] and targets(given, "kind", "y", "it").tolist() == [False, True]
    with pytest.raises(BadInput, match="it reads the texts"):
        texts({}, "it")
    with pytest.raises(BadInput, match="no document is of kind 'z'"):
        targets(given, "kind", "z", "it")


def test_blocks_hold_all_texts_in_order():
    some = ["a", "bbbb", "", "cc", "d" * 9, ""]
    assert list(blocks(iter(some), 4)) == [["a", "bbbb"], ["", "cc", "d" * 9], [""]]
    assert list(blocks(some)) == [some] and list(blocks([])) == []

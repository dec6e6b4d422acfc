from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.funnel import Funnel, missing, unique
from bloomery.data.sizes import parse_size


def test_a_funnel_adds_up_and_tells_when_it_does_not():
    funnel = Funnel([10, 20, 30, 40])
    funnel.outside("malformed", 2, 5)
    funnel.outside("rewritten", 0, 7)
    funnel.drop("short", [1], "why")
    funnel.drop("copy", {3: "of 0"})
    assert funnel.rows.tolist() == [0, 2] and [funnel.why(row, None) for row in (1, 3)] == [("short", ""), ("copy", "of 0")]
    story = funnel.story([6, 112], {"train": [0], "heldout": [2]})
    assert missing(story, "documents") == 0 and missing(story, "bytes") == 0
    assert story["out"]["heldout"] == {"documents": 1, "bytes": 30} and funnel.worst()["reason"] == "malformed"
    assert missing(funnel.story([6, 112], {"train": [0], "heldout": []}), "bytes") == 30


def test_names_become_unique():
    assert unique(pa.array(["a", "b", "a", "a~2", "a"])).to_pylist() == ["a", "b", "a~3", "a~2", "a~4"]
    many = unique(pa.chunked_array([["x"] * 5, ["x~3", "x~3"]])).to_pylist()
    assert len(set(many)) == 7 and many[0] == "x"
    assert unique(pa.array(["b", "a"])).to_pylist() == ["b", "a"] and unique(pa.array([], pa.string())).to_pylist() == []


def test_copies_name_what_they_copy():
    funnel = Funnel([1, 2, 3, 4])
    funnel.drop_copies("exact duplicate", np.array([3, 0]), np.array([1, 2]), "why")
    assert [funnel.why(row, ["a", "b", "c", "d"]) for row in (0, 3)] == [("exact duplicate", "of c"), ("exact duplicate", "of b")]
    assert funnel.steps == [{"reason": "exact duplicate", "documents": 2, "bytes": 5, "note": "why"}] and funnel.gone.tolist() == [0, 3]


def test_sizes():
    assert [parse_size(text, "x") for text in ("10MB", "1.5 gib", "4096", 7, "2kB", "1e3")] == [10**7, 3 << 29, 4096, 7, 2000, 1000]
    for bad in ("", "ten", "-1", "0", "5 apples", True, "1e999", "nan"):
        with pytest.raises(BadInput, match="x: "):
            parse_size(bad, "x")

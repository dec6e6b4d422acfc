from __future__ import annotations

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
    assert funnel.rows.tolist() == [0, 2] and funnel.notes.tolist() == ["", "", "", "of 0"]
    story = funnel.story([6, 112], {"train": [0], "heldout": [2]})
    assert missing(story, "documents") == 0 and missing(story, "bytes") == 0
    assert story["out"]["heldout"] == {"documents": 1, "bytes": 30} and funnel.worst()["reason"] == "malformed"
    assert missing(funnel.story([6, 112], {"train": [0], "heldout": []}), "bytes") == 30


def test_names_become_unique():
    assert unique(["a", "b", "a", "a~2", "a"]) == ["a", "b", "a~3", "a~2", "a~4"]
    many = unique(["x"] * 5 + ["x~3", "x~3"])
    assert len(set(many)) == 7


def test_sizes():
    assert [parse_size(text, "x") for text in ("10MB", "1.5 gib", "4096", 7, "2kB", "1e3")] == [10**7, 3 << 29, 4096, 7, 2000, 1000]
    for bad in ("", "ten", "-1", "0", "5 apples", True, "1e999", "nan"):
        with pytest.raises(BadInput, match="x: "):
            parse_size(bad, "x")

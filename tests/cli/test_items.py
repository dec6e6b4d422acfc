"""Items of an evaluation on the terminal: listed the worst first, and one shown whole."""

from __future__ import annotations

import json

import pytest

from bloomery.cli.items import show_items
from bloomery.core.errors import BadInput
from bloomery.core.store import Artifact

OWN = [
    {"id": "a", "score": 1.0, "parts": {}, "prompt": "say red", "target": "red", "text": "red", "ids": [3], "dropped": 0},
    {
        "id": "b",
        "score": 0.0,
        "parts": {},
        "messages": [["user", "say\nblue"]],
        "target": "blue",
        "text": "green",
        "ids": [4],
        "dropped": 2,
    },
    {"id": "c", "score": 0.5, "parts": {"bits": 7.25}, "prompt": "", "target": "a text", "tokens": 3},
]
THEIRS = [{"id": "0", "requests": [{"arguments": ["Q:", " x"], "logp": -1.5}], "wanted": 1, "scores": {"acc": 1.0}}]


@pytest.fixture
def scores(tmp_path) -> Artifact:
    (tmp_path / "items").mkdir()
    for name, rows in (("own", OWN), ("lm_eval.theirs", THEIRS)):
        (tmp_path / "items" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Artifact("s" * 8, tmp_path, {"kind": "scores", "facts": {}})


def test_the_worst_stand_first(scores, capsys):
    show_items(scores, "own", None, False)
    listed = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in listed] == ["b", "c", "a"]
    assert "say blue" in listed[0] and "green" in listed[0] and "bits 7.25" in listed[1]
    show_items(scores, "lm_eval.theirs", None, False)
    assert "-1.500" in capsys.readouterr().out


def test_one_item_is_shown_with_nothing_left_out(scores, capsys):
    show_items(scores, "own", "b", False)
    said = capsys.readouterr().out
    assert all(text in said for text in ("say\nblue", "green", "--- wanted\nblue", '"dropped": 2'))
    show_items(scores, "lm_eval.theirs", "0", False)
    assert "log-probability -1.500000" in capsys.readouterr().out
    show_items(scores, "own", "b", True)
    assert json.loads(capsys.readouterr().out) == OWN[1]


def test_what_is_not_there_is_refused(scores, tmp_path):
    with pytest.raises(BadInput, match="theirs"):
        show_items(scores, "lm_eval.their", None, False)
    with pytest.raises(BadInput, match="no item 'z'"):
        show_items(scores, "own", "z", False)
    with pytest.raises(BadInput, match="only scores"):
        show_items(Artifact("m" * 8, tmp_path / "items", {"kind": "model", "facts": {}}), "own", None, False)

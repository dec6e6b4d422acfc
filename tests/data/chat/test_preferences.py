"""Preference pairs and KTO labels."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.chat.preferences import Judged, Preference, read_preferences
from bloomery.data.chat.read import read_chats

PAIR = {"prompt": "Q", "chosen": "good", "rejected": "bad"}
KTO = {"prompt": "Q", "completion": "A", "label": False}


def said(*pairs) -> list[dict]:
    return [{"role": role, "content": content} for role, content in pairs]


def lines(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_shape_of_a_pair_is_the_same_pair(tmp_path):
    asked, good, bad = said(("user", "Q")), said(("assistant", "good")), said(("assistant", "bad"))
    rows = [
        PAIR,
        {"prompt": asked, "chosen": good, "rejected": bad},
        {"chosen": asked + good, "rejected": asked + bad},  # the prompt is what both begin with
        {"prompt": "Q", "chosen": asked + good, "rejected": asked + bad, "messages": asked + good},  # and is repeated here
        {"prompt": None, "chosen": asked + good, "rejected": asked + bad},
    ]
    found = read_preferences(lines(tmp_path / "a.jsonl", *rows))
    assert found.format == "preference" and not found.dropped
    for one in found.rows:
        assert isinstance(one, Preference)
        assert (one.prompt, one.chosen, one.rejected) == ((("user", "Q"),), (("assistant", "good"),), (("assistant", "bad"),))
    assert len({one.id for one in found.rows}) == len(rows) and found.rows[1].path == "a.jsonl:2"
    assert read_preferences(tmp_path / "a.jsonl") == found


def test_the_shared_prompt_ends_with_a_question(tmp_path):
    begin = said(("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "R"))
    row = {"chosen": begin + said(("assistant", "x")), "rejected": begin + said(("assistant", "y"))}
    same = {"chosen": begin + said(("assistant", "x"), ("user", "z"), ("assistant", "v")),
            "rejected": begin + said(("assistant", "x"), ("user", "z"), ("assistant", "w"))}  # fmt: skip
    one, two = read_preferences(lines(tmp_path / "a.jsonl", row, same)).rows
    assert [role for role, _ in one.prompt] == ["system", "user", "assistant", "user"]
    assert two.prompt[-1] == ("user", "z") and two.chosen == (("assistant", "v"),)


def test_labels_of_kto(tmp_path):
    rows = [KTO, {"prompt": said(("user", "Q")), "completion": said(("assistant", "A")), "label": True}]
    found = read_preferences(lines(tmp_path / "a.jsonl", *rows))
    assert found.format == "kto" and [one.label for one in found.rows] == [False, True]
    assert all(isinstance(one, Judged) and one.completion == (("assistant", "A"),) for one in found.rows)
    pq.write_table(pa.Table.from_pylist([KTO]), tmp_path / "a.parquet")
    assert read_preferences(tmp_path / "a.parquet").rows[0].label is False


BAD = {
    "chosen and rejected are the same": PAIR | {"rejected": "good"},
    "no prompt": {"chosen": "good", "rejected": "bad"},
    "empty answer": PAIR | {"chosen": " "},
    "empty question": PAIR | {"prompt": ""},
    "content other than text": PAIR | {"chosen": 3},
    "no answer": {"chosen": said(("user", "Q")), "rejected": said(("user", "Q"), ("assistant", "A"))},
    "none of the known formats": {"prompt": "Q", "response": "A"},
    "an answer that begins with a question": PAIR | {"chosen": said(("user", "R"), ("assistant", "A"))},
    "tool calls": PAIR | {"chosen": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}]},
    "not an object": 3,
}


def test_bad_rows_have_their_reason(tmp_path):
    found = read_preferences(lines(tmp_path / "a.jsonl", PAIR, *BAD.values()))
    assert len(found.rows) == 1 and found.dropped == dict.fromkeys(BAD, 1)
    found = read_preferences(lines(tmp_path / "b.jsonl", KTO, KTO | {"label": 1}, KTO | {"label": "yes"}))
    assert len(found.rows) == 1 and found.dropped == {"a label that is neither true nor false": 2}


def test_files_that_are_refused(tmp_path):
    for rows, why in [
        ([PAIR, KTO], "1 of prompt, chosen, rejected and 1 of prompt, completion, label; give files of one kind"),
        ([{"prompt": "Q", "completion": "A"}], r"none of its 1 rows is a judged answer \(none of the known formats\)"),
    ]:
        with pytest.raises(BadInput, match=why):
            read_preferences(lines(tmp_path / "a.jsonl", *rows))


@pytest.mark.parametrize(("row", "what"), [(PAIR, "preference pairs"), (KTO, "judged answers")])
def test_judged_answers_are_never_taken_for_answers_to_imitate(tmp_path, row, what):
    with pytest.raises(BadInput, match=f"holds {what} .*, which are for alignment, not conversations to imitate") as caught:
        read_chats(lines(tmp_path / "a.jsonl", row, row))
    assert "\n" not in str(caught.value)
    mixed = read_chats(lines(tmp_path / "b.jsonl", row, {"prompt": "Q", "completion": "A"}))
    assert len(mixed.conversations) == 1 and mixed.dropped == {f"{what}, not conversations": 1}
    named = row | {"messages": said(("user", "Q"), ("assistant", "A"))}  # as sets have it that hold both
    assert len(read_chats(lines(tmp_path / "c.jsonl", named)).conversations) == 1

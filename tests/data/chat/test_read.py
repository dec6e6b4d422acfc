from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.chat.read import Conversation, read_chats, write_chats

ASKED = (("user", "Q"), ("assistant", "A"))


def lines(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def said(*pairs) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


FORMS = {
    "messages": said(*ASKED),
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    "alpaca": {"instruction": "Q", "input": "", "output": "A"},
    "prompt-completion": {"prompt": "Q", "completion": "A"},
}


@pytest.mark.parametrize("name", FORMS)
def test_each_format_is_found_by_looking(tmp_path, name):
    found = read_chats(lines(tmp_path / "a.jsonl", FORMS[name], FORMS[name]))
    assert found.format == name and found.formats == {name: 2} and not found.dropped
    assert [one.messages for one in found.conversations] == [ASKED] * 2
    first, second = found.conversations
    assert first.id != second.id and (first.path, second.path) == ("a.jsonl:1", "a.jsonl:2")
    assert first.plain == ("Q" if name == "prompt-completion" else "")
    assert read_chats(tmp_path / "a.jsonl") == found, "ids depend on the content and its place alone"


def test_more_of_each_format(tmp_path):
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    rows = [
        {**said(("developer", "S"), ("user", "Q"), ("assistant", parts), ("user", "left")), "id": 7, "package": "p", "kind": "k"},
        {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"instruction": "Q", "input": "more", "output": "A", "system": "S", "history": [["q", "a"]]},
        {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]},
        said(("user", "Q"), ("assistant", "B"), ("tool", "T"), ("assistant", "A")),
        {"messages": None, "prompt": "Q", "completion": " A"},
    ]
    found = read_chats(lines(tmp_path / "a.jsonl", *rows))
    assert found.format == "messages (2), sharegpt (1), alpaca (1), prompt-completion (2)" and not found.dropped
    first, *others = found.conversations
    assert first == Conversation("7", (("system", "S"), ("user", "Q"), ("assistant", "AB")), "p", "a.jsonl:1", "k")
    assert [one.messages for one in others] == [
        (("system", "S"), *ASKED),
        (("system", "S"), ("user", "q"), ("assistant", "a"), ("user", "Q\n\nmore"), ("assistant", "A")),
        ASKED,
        (("user", "Q"), ("assistant", "B"), ("tool", "T"), ("assistant", "A")),
        (("user", "Q"), ("assistant", " A")),
    ]


BAD = {
    "unknown role": [said(("user", "Q"), ("wizard", "A"))],
    "empty answer": [said(("user", "Q"), ("assistant", " ")), {"instruction": "Q", "output": ""}],
    "empty question": [{"prompt": "", "completion": "A"}, {"instruction": " ", "output": "A"}],
    "no answer": [said(("user", "Q")), said()],
    "answer before question": [said(("assistant", "A"), ("user", "Q"), ("assistant", "A")), said(("system", "S"), ("assistant", "A"))],
    "null": [said(("user", None), ("assistant", "A")), {"messages": None}, {"prompt": "Q", "completion": None}],
    "a tool call without a name": [
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}
    ],
    "content other than text": [said(("user", [{"type": "image_url"}]), ("assistant", "A")), {"prompt": 3, "completion": "A"}],
    "not valid Unicode": ['{"prompt": "\\ud800", "completion": "A"}'],
    "not JSON": ["{", "nonsense"],
    "not an object": ["3", '"text"'],
    "none of the known formats": [{"question": "Q", "answer": "A"}],
    "messages are no list": [{"messages": "Q"}],
    "a message is no object": [{"messages": ["Q"]}],
    "history is no list of pairs": [{"instruction": "Q", "output": "A", "history": ["a"]}],
}


def test_bad_rows_are_dropped_with_a_reason_and_their_places(tmp_path):
    rows = [FORMS["messages"], *(row for bad in BAD.values() for row in bad), FORMS["alpaca"]]
    found = read_chats(lines(tmp_path / "a.jsonl", *rows))
    assert len(found.conversations) == 2 and found.dropped == {reason: len(bad) for reason, bad in BAD.items()}
    assert found.examples["unknown role"] == ("a.jsonl:2",) and found.examples["empty answer"] == ("a.jsonl:3", "a.jsonl:4")
    many = read_chats(lines(tmp_path / "b.jsonl", FORMS["alpaca"], *["{"] * 9))
    assert many.dropped == {"not JSON": 9} and many.examples == {"not JSON": ("b.jsonl:2", "b.jsonl:3", "b.jsonl:4")}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"question": "Q", "answer": "A"}], r"its columns are question, answer; the known formats are messages: .*prompt, completion"),
        ([{"prompt": "Q", "response": "A"}], "its columns are prompt, response"),
        ([said(("user", "Q"))] * 3 + [said()], "none of its 4 rows is a conversation, most of them for: no answer"),
        (["text", "more"], "its columns are none"),
    ],
)
def test_a_file_without_any_conversation_is_refused(tmp_path, rows, why):
    with pytest.raises(BadInput, match=why) as caught:
        read_chats(lines(tmp_path / "a.jsonl", *rows))
    assert "\n" not in str(caught.value)


def test_files_and_folders(tmp_path):
    row = FORMS["messages"]
    (tmp_path / "d" / "in").mkdir(parents=True)
    (tmp_path / "d/a.json").write_text(json.dumps([row, FORMS["alpaca"]]))
    (tmp_path / "d/in/b.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(row).encode() + b"\n\n"))
    with pa.output_stream(str(tmp_path / "d/c.jsonl.zst"), compression="zstd") as stream:
        stream.write(json.dumps(row).encode())
    lines(tmp_path / "d/e.json", row)
    (tmp_path / "d/readme.md").write_text("no data")
    found = read_chats(tmp_path / "d")
    assert [one.path for one in found.conversations] == ["a.json:1", "a.json:2", "c.jsonl.zst:1", "e.json:1", "in/b.jsonl.gz:1"]
    assert found.format == "messages (4), alpaca (1)"
    lines(tmp_path / "d/test-0001.jsonl", row)
    with pytest.raises(BadInput, match=r"holds test-0001\.jsonl beside files to train on"):
        read_chats(tmp_path / "d")
    (tmp_path / "empty").mkdir()
    lines(tmp_path / "a.csv", "x")
    (tmp_path / "none.jsonl").touch()
    (tmp_path / "broken.json").write_text("[{")
    (tmp_path / "broken.parquet").write_text("PAR1")
    for name, why in {
        "absent": "does not exist", "empty": "holds no file", "a.csv": "end in", "none.jsonl": "is empty", "broken.json": "no JSON",
        "broken.parquet": "not a Parquet file",
    }.items():  # fmt: skip
        with pytest.raises(BadInput, match=why):
            read_chats(tmp_path / name)


def test_parquet_as_others_write_it(tmp_path):
    rows = [
        said(("user", "Q"), ("assistant", "A")) | {"source": "x"},
        {"messages": None, "source": "y"},
        said(("user", "Q")) | {"source": "z"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = read_chats(tmp_path / "a.parquet")
    assert [one.messages for one in found.conversations] == [ASKED] and found.dropped == {"null": 1, "no answer": 1}
    broken = pa.array([b"Q", b"\xff"])
    pq.write_table(
        pa.table({"prompt": pa.Array.from_buffers(pa.string(), 2, broken.buffers()), "completion": ["A", "B"]}), tmp_path / "b.parquet"
    )
    assert read_chats(tmp_path / "b.parquet").dropped == {"not UTF-8": 1}
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "c.parquet")
    with pytest.raises(BadInput, match="has no rows"):
        read_chats(tmp_path / "c.parquet")


def test_what_is_written_is_read_again(tmp_path):
    given = [Conversation(f"id{i}", (("user", f"Q{i} é\n"), ("assistant", " 日\n")), "pkg", "a/b.py", "body", "def") for i in range(5)]
    write_chats(tmp_path / "a.parquet", iter(given))
    assert read_chats(tmp_path / "a.parquet").conversations == given
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == ["id", "package", "path", "kind", "plain", "messages"]
    turn = schema.field("messages").type.value_type
    assert [(turn.field(i).name, turn.field(i).type) for i in range(2)] == [("role", pa.string()), ("content", pa.string())]
    write_chats(tmp_path / "b.parquet", given)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    write_chats(tmp_path / "none.parquet", [])
    assert read_chats(tmp_path / "none.parquet").conversations == []

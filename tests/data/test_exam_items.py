"""Items from files of every kind."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.exam_items import files_of, read_items

ROWS = [
    {"id": 7, "question": "Which?", "choices": ["red", "blue"], "answer": 1},
    {"question": "What?", "choices": ["up", "down"], "answer": "A"},
    {"question": "Who?", "choices": [], "answer": ["she", "he"]},
]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_rows_of_every_kind_say_the_same(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    plain = read_items(written(tmp_path, "a.jsonl", lines))
    assert [(one.name, one.question, one.answer) for one in plain] == [
        ("7", "Which?", "blue"),
        ("1", "What?", "up"),
        ("2", "Who?", "she\nhe"),
    ]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert [one.answer for one in read_items(tmp_path / "b.jsonl.gz")] == [one.answer for one in plain]
    assert [one.answer for one in read_items(written(tmp_path, "c.json", json.dumps(ROWS)))] == [one.answer for one in plain]
    pq.write_table(pa.table({"problem": ["Add 2 and 3."], "solution": ["5"], "answer": ["five"]}), tmp_path / "d.parquet")
    (one,) = read_items(tmp_path / "d.parquet")
    assert (one.question, one.answer) == ("Add 2 and 3.", "5")
    (one,) = read_items(tmp_path / "d.parquet", answer="answer")
    assert one.answer == "five"
    (one,) = read_items(written(tmp_path, "e.tsv", "prompt\tcode\nsay\t'x y'\n"))
    assert (one.question, one.answer) == ("say", "'x y'")
    (one,) = read_items(written(tmp_path, "f.md", "A whole text."))
    assert (one.set, one.question, one.answer) == ("f.md", "A whole text.", "")
    assert [path.name for path in files_of(tmp_path)] == ["a.jsonl", "b.jsonl.gz", "c.json", "d.parquet", "e.tsv", "f.md"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.bin", "x", "is no file of items"),
        ("a.jsonl", "{", r"a\.jsonl:1 is not JSON"),
        ("a.jsonl", "[1]", "holds a list, not an object"),
        ("a.jsonl", '{"one": "x"}', "has the columns one; say which by --question"),
        ("a.jsonl", "", "holds no items"),
        ("a.parquet", "no", "is no Parquet file"),
    ],
)
def test_what_cannot_be_read_is_said(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        read_items(written(tmp_path, name, text))


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"question": "x", "b": "y"}')
    with pytest.raises(BadInput, match=r"--answer: .* has no column 'c'; it has b, question"):
        read_items(path, answer="c")
    with pytest.raises(BadInput, match="holds no file of items"):
        files_of(tmp_path / "nothing")


def test_a_long_field_of_a_table_is_read_whole(tmp_path: Path) -> None:
    csv.field_size_limit(131072)  # as a fresh process has it
    path = written(tmp_path, "large.csv", f"question,answer\n{'x' * 200_000},1\n")
    (found,) = read_items(path)
    assert "x" * 200_000 in str(found)

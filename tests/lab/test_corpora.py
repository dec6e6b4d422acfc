"""Corpora by the names that people give, and how much of them is held at once."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from bloomery.core.errors import BadInput
from bloomery.lab import corpora
from bloomery.lab.corpora import parts_of

TEXT = "some words of a document that is neither long nor short " * 4


def texts(part, unread: Counter | None = None) -> list[str]:
    return [text for _, column in part.tables(Counter() if unread is None else unread) for text in column.to_pylist()]


def test_no_more_than_a_batch_and_a_document_is_held(tmp_path: Path, monkeypatch) -> None:
    import pyarrow as pa

    from bloomery.data.tables import write_table

    monkeypatch.setattr(corpora, "BATCH", 20_000)
    rows = [{"id": str(i), "text": f"{i} {TEXT}"} for i in range(2000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "made").mkdir()
    write_table(pa.Table.from_pylist(rows), tmp_path / "made" / "train.parquet")
    for named, most in (("a.jsonl", 20_000 + 400), ("made", 20_000 + corpora.ROWS * 400)):
        (part,) = parts_of([str(tmp_path / named)], tmp_path)
        tables = list(part.tables(Counter()))
        assert len(tables) > 5 and all(column.nbytes <= most + 8 * len(column) for _, column in tables)
        assert [text for _, column in tables for text in column.to_pylist()] == [row["text"] for row in rows]


def test_a_folder_of_records_is_all_of_its_files_and_one_of_sources_a_tree(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "records" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "two"}\n'))
    (tmp_path / "records" / "c.txt").write_text("three")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "d.py").write_text("print('four')\n")
    (tmp_path / "tree" / "e.md").write_text("# five\n")
    (part,) = parts_of([str(tmp_path / "records")], tmp_path)
    assert sorted(texts(part)) == ["one", "three", "two"]
    (part,) = parts_of([str(tmp_path / "tree")], tmp_path)
    assert sorted(texts(part)) == ["# five\n", "print('four')\n"]


def test_what_cannot_be_read_is_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(corpora, "LONGEST", 100)
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{{"text": "{"x" * 200}"}}\n{{"text": 3}}\n')
    (part,) = parts_of([str(tmp_path / "a.jsonl")], tmp_path)
    unread: Counter[str] = Counter()
    assert texts(part, unread) == ["fine"] and unread == Counter({"too long": 1, "malformed": 1})


def test_names_of_parts_differ_and_what_holds_no_text_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    from bloomery.data.tables import write_table

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_table(pa.table({"text": ["x"]}), tmp_path / name / "train.parquet")
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n')
    found = parts_of([str(tmp_path / "one"), str(tmp_path / "two")], tmp_path)
    assert [part.name for part in found] == ["train-0", "train-1"]
    with pytest.raises(BadInput, match="has no column 'text'"):
        parts_of([str(tmp_path / "a.jsonl")], tmp_path)
    assert texts(parts_of([str(tmp_path / "a.jsonl")], tmp_path, "body")[0]) == ["x"]

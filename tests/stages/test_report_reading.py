"""What the report reads out of an artifact's files, whole or cut short."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from bloomery.core.store import Artifact
from bloomery.stages import report


def test_lines_and_objects(tmp_path):
    (tmp_path / "curve.jsonl").write_text('{"step": 1}\n[1]\n{"text": "a\u2028b"}\n{"st', encoding="utf-8")
    assert report.json_lines(tmp_path / "curve.jsonl") == [{"step": 1}, {"text": "a\u2028b"}]
    (tmp_path / "half.json").write_text('{"a": ')
    (tmp_path / "list.json").write_text("[1]")
    assert [report.json_object(tmp_path / name) for name in ("none.json", "half.json", "list.json")] == [{}, {}, {}]


def test_scores_have_words(tmp_path):
    (tmp_path / "scores.json").write_text('{"scores": [{"metric": null, "value": 1}, 3, {"task": ["a"]}]}')
    rows = report.scores_of(Artifact("a", tmp_path, {}))
    assert [row["metric"] for row in rows] == ["", ""] and rows[0]["value"] == 1 and rows[1]["task"] == "['a']"


def test_conversations(tmp_path):
    artifact = Artifact("a", tmp_path, {})
    assert report.conversations(artifact) is None
    said = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}] for i in range(4)]
    pq.write_table(pa.table({"kind": ["x", "y", "x", None], "messages": said}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"kind": ["x"], "messages": said[3:]}), tmp_path / "heldout.parquet")
    counts, examples = report.conversations(artifact)
    assert counts == {"heldout": {"x": 1}, "train": {"x": 2, "y": 1, "": 1}}
    assert [(e["kind"], e["messages"][0][1]) for e in examples] == [("x", "q3"), ("y", "q1"), ("", "q3")]
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "train.parquet")
    assert report.conversations(artifact)[0]["train"] == {"": 1}

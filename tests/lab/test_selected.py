from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.lab.selected import bits, share


def run(folder, diverged=""):
    return SimpleNamespace(diverged=diverged, artifact=SimpleNamespace(path=lambda *parts: folder.joinpath(*parts)))


def test_bits_of_the_documents_of_one_kind(tmp_path):
    (tmp_path / "items").mkdir()
    rows = [("target0", 30, 10), ("target1", 10, 10), ("plain0", 99, 1)]
    lines = (json.dumps({"group": group, "parts": {"bits": one, "bytes": size}}) + "\n" for group, one, size in rows)
    (tmp_path / "items/bits_per_byte.jsonl").write_text("".join(lines))
    found = bits([run(tmp_path), run(tmp_path, "diverged")], "target")
    assert found[0] == pytest.approx(2.0) and math.isnan(found[1])


def test_share_of_the_bytes_of_some_kinds(tmp_path):
    pq.write_table(pa.table({"domain": ["a", "b", "c"], "bytes": [10, 20, 70]}), tmp_path / "train.parquet")
    assert share([run(tmp_path)], ("a", "b")) == [pytest.approx(0.3)] and share([run(tmp_path)], ()) == [0.0]

"""What stands in the place of cut documents, against plain lists."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from bloomery.data.cutting import Cuts, cut_texts, join_values
from bloomery.data.tables import read_table, write_table
from bloomery.data.trained_spans import listed

ROWS = 90
KINDS = {"id": pa.string(), "text": pa.string(), "bytes": pa.int64(), "spans": listed([]).type, "a.x": pa.float64(), "b.y": pa.float64()}
SCHEMA = pa.schema(list(KINDS.items()))


@pytest.fixture
def documents() -> list[dict]:
    draw = random.Random(2)
    texts = [" ".join(f"w{draw.randrange(99)}" for _ in range(draw.randrange(4, 12))) for _ in range(ROWS)]
    marks = [{"start": 0, "stop": 1, "weight": 0.5}]  # on the first letter, which stays where anything does
    made = [{"id": f"d{k}", "text": text, "bytes": len(text), "spans": [], "a.x": float(k), "b.y": -1.0} for k, text in enumerate(texts)]
    return [one | ({"spans": marks} if k % 2 else {}) for k, one in enumerate(made)]


@pytest.fixture
def cut(documents, tmp_path) -> tuple[Cuts, list[dict]]:
    """Every third document without its second and third word, every twelfth without any; and all documents as they are since."""
    after = [dict(one) for one in documents]
    passages = []
    for row in range(0, ROWS, 3):
        words = documents[row]["text"].split()
        begin, end = (0, len(words)) if row % 12 == 0 else (1, 3)
        passages.append((row, begin, end, 0, 0))
        after[row]["text"] = " ".join([*words[:begin], *words[end:]])
        after[row] |= {"bytes": len(after[row]["text"]), "a.x": row + 0.5}
    rows = np.arange(0, ROWS, 3)
    tables = (
        pa.Table.from_pylist([documents[row] for row in some], SCHEMA).select(["id", "text", "bytes", "spans"])
        for some in np.split(rows, [7, 8, 20])
    )
    sizes, files = cut_texts(tables, np.array(passages), tmp_path)
    assert sizes.tolist() == [after[row]["bytes"] for row in rows]
    left = rows[sizes > 0]
    values = [tmp_path / f"values-{k}" for k in range(2)]
    for path, some in zip(values, np.split(left, [5]), strict=True):
        write_table(pa.table({"a.x": [after[row]["a.x"] for row in some]}), path)
    join_values(values, tmp_path / "values")
    assert [read_table(path, ["id"]).num_rows for path, _ in files] == [count for _, count in files] and sum(sizes == 0) == 8
    return Cuts(left, sizes[sizes > 0], files, {"a.x": tmp_path / "values"}), after


@pytest.mark.parametrize("rows", [range(ROWS), range(5, 40), [0, 1, 2], [3, 3, 6, 7, 7, 88], [12], []])
def test_tables_are_as_after_cutting(documents, cut, rows):
    cuts, after = cut
    table = pa.Table.from_pylist(documents, SCHEMA).take(pa.array(rows, pa.int64()))
    expected = [after[row] if after[row]["text"] else documents[row] for row in rows]  # what has gone as a whole is in no file
    assert cuts.patched(table, np.array(rows, np.int64)).to_pylist() == expected
    assert cuts.patched(table.select(["b.y"]), np.array(rows, np.int64)).to_pylist() == [{"b.y": -1.0}] * len(expected)

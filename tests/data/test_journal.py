"""A journal that is torn at any byte holds exactly the lines that were whole."""

from __future__ import annotations

from bloomery.data.journal import Journal


def test_torn_anywhere(tmp_path) -> None:
    path = tmp_path / "deep" / "items.jsonl"
    Journal(path).add([{"id": "ä", "x": 1}, {"id": "b", "x": "\u2028line"}])
    Journal(path).add([{"id": "c", "x": None}])
    data = path.read_bytes()
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        journal = Journal(path)
        assert list(journal.rows) == ["ä", "b", "c"][: data[:cut].count(b"\n")]
        if "c" not in journal:
            journal.add([{"id": "c", "x": 2}])
            assert Journal(path).rows["c"]["x"] == 2

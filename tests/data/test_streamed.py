"""Part by part gives what all at once gives."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.annotations import held, wanted
from bloomery.core.log import Log
from bloomery.data.annotate import Chunk, Work, annotate
from bloomery.data.chunks import Chunks, Part
from bloomery.data.crossing import largest_crossing, nearest
from bloomery.data.documents import Options, Task
from bloomery.data.duplicates import exact_duplicates, near_duplicates
from bloomery.data.finish import finish_columns, finish_texts, values_of
from bloomery.data.marks import Keys, Signatures
from bloomery.data.minhash import signatures
from bloomery.data.streamed import largest_crossing_streamed, nearest_streamed
from bloomery.data.texts import Editing
from bloomery.seams import Doc, Rng


def texts() -> list[str]:
    draw, words, found = random.Random(5), [f"w{k}" for k in range(900)], []
    for k in range(400):
        base = draw.choices(words, k=draw.randrange(3, 90))
        if found and k % 3 == 0:
            base = draw.choice(found).split()
            if k % 2:
                base[draw.randrange(len(base))] = "changed"
        found.append(" ".join(base))
    return found


@pytest.fixture
def chunks(store, monkeypatch) -> Chunks:
    """Documents in seven chunks, each of one file of texts, annotated as curate does it."""
    from bloomery.data import sources

    docs = [Doc(f"d{k}", text, {"path": f"{k}", "package": f"p{k % 5}", "bytes": len(text)}) for k, text in enumerate(texts())]
    monkeypatch.setattr(sources, "read", lambda task: iter(docs[task.where[0] : task.where[1]]))
    desk = store.work / "step"
    desk.mkdir()
    read, keys, signed = (wanted(store, name, {}) for name in ("texts", "keys", "signatures"))
    with held(store, desk, [read, keys, signed], print):
        places = ((str(keys.folder), Keys()), (str(signed.folder), Signatures()))
        work = Work(str(desk), 0, str(read.folder), Editing((), Rng((0,))), places)
        for number, start in enumerate(range(0, len(docs), 60)):
            annotate(Chunk(work, number, Task("jsonl", "s", (start, start + 60), Options(), 10**6)))
        finish_texts(read, number + 1)
        for one in (keys, signed):
            finish_columns(one, read)
    return Chunks([Part(read.folder, read.facts, {"_key": values_of(keys), "_signature": values_of(signed)})])


def test_rows_columns_and_texts_are_those_of_the_documents(chunks, tmp_path):
    found = texts()
    assert len(chunks) == 400 and chunks.column("bytes").tolist() == [len(text) for text in found]
    rows = np.array([0, 5, 59, 60, 200, 200, 399])
    held = chunks.texts(rows, tmp_path)
    assert list(held) == list(held) == [found[row] for row in rows] and len(held) == 7 and held.folder == tmp_path
    assert held[1] == found[5] and held[-1] == found[399] and list(held[2:4]) == [found[59], found[60]]
    with pytest.raises(IndexError):
        held[7]
    assert chunks.ids.among(rows)[:] == [f"d{row}" for row in rows]
    chunks.forget()
    assert chunks.ids[3] == "d3"
    codes, names = chunks.coded("package", rows)
    assert [names[code] for code in codes] == [f"p{row % 5}" for row in rows]
    assert sum(table.num_rows for _, table in chunks.slices(["id", "_key"])) == 400


@pytest.mark.parametrize("most", [1, 7, 10**6])
def test_exact_duplicates_group_by_group(chunks, most):
    found, sizes, ids = texts(), np.arange(400), [f"d{k}" for k in range(400)]
    rows = np.flatnonzero(np.arange(400) % 7 > 0)
    keys = [Keys().columns([Doc("", found[row])], {}, None)["_key"][0].as_py() for row in rows]
    whole = {int(rows[row]): int(rows[kept]) for row, kept in zip(*exact_duplicates(keys, sizes[rows], ids), strict=True)}
    parts = {}
    for some, keys in chunks.repeated(rows, most):
        copies = exact_duplicates(keys, sizes[some], [ids[k] for k in np.searchsorted(rows, some)])
        parts |= {int(some[row]): int(some[kept]) for row, kept in zip(*copies, strict=True)}
    assert parts == whole and len(parts) > 30


@pytest.mark.parametrize(("room", "at_once"), [(10_000, 37), (10**8, 10**6)])
def test_near_duplicates_from_annotations(chunks, room, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr("bloomery.data.chunks.AT_ONCE", at_once)
    found, sizes = texts(), chunks.column("bytes")
    rows = np.flatnonzero(np.arange(400) % 11 > 0)
    signature, counts = signatures([found[row] for row in rows])
    signed, ids = np.flatnonzero(counts), [f"d{row}" for row in rows]
    whole = near_duplicates([(signed, signature[signed])], lambda k: [found[row] for row in rows[k]], 0.7, sizes[rows], ids)
    assert chunks.text_column(rows[:70]).to_pylist() == [found[row] for row in rows[:70]] and len(signed) < len(rows)
    told = sizes[rows], chunks.ids.among(rows), room, tmp_path
    streamed = near_duplicates(chunks.signed(rows), lambda k: chunks.text_column(rows[k]), 0.7, *told)
    assert np.array_equal(whole, streamed) and len(whole[0]) > 50 and not list(tmp_path.glob("near-*"))


@pytest.mark.parametrize("room", [20_000, 10**8])
def test_the_guard_run_by_run(chunks, room, tmp_path: Path):
    found, log = texts(), Log(tmp_path / "log.jsonl", quiet=True)
    held_out, others = np.arange(0, 400, 9), np.flatnonzero(np.arange(400) % 9)
    whole = nearest([found[row] for row in held_out], [[found[row] for row in others]], 0.5)
    best, where = nearest_streamed(chunks, held_out, others, 0.5, room, log)
    over = whole[0] >= 0.5
    assert np.array_equal(best[over], whole[0][over]) and np.array_equal(where[over], whole[1][over]) and over.sum() > 5
    for name, rows in (("held", held_out), ("others", others)):
        pq.write_table(pa.table({"text": [found[row] for row in rows]}), tmp_path / name, row_group_size=50)
    value, _ = largest_crossing_streamed(tmp_path / "held", tmp_path / "others", 0.5, room, log)
    assert value == largest_crossing([found[row] for row in held_out], [[found[row] for row in others]], 0.5)[0]
    ends = [row for row in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if row["kind"] == "end"]
    done = {row["label"]: row["done"] for row in ends}
    if room < 10**8:
        assert done["looking across the split"] == len(others) > over.sum(), "one pass for all, and further ones for what may be alike"
        assert done["comparing across the split"] % len(others) > 0 and done["checking the split"] > len(others)
    else:
        assert done == {"comparing across the split": len(others), "checking the split": len(others)}

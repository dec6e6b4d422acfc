"""The chunk files of an annotation become a whole one: few files, in the order of the documents, streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bloomery.core.annotations import Annotation
from bloomery.data.columns import ABOUT
from bloomery.data.documents import Broken
from bloomery.data.tables import Writer, read_table
from bloomery.data.texts import Summary, aside

VALUES = "values.parquet"  # the columns of a signal, all documents
ROWS = "about.parquet"  # what is known of the documents beside their texts
DROPPED = "dropped.parquet"  # what did not become one, with reasons


def finish_texts(one: Annotation, chunks: int) -> None:
    """Join what `chunks` chunks tell of their documents and of what was dropped; the texts stay in their files."""
    files: list[tuple[str, int]] = []
    totals: dict[str, list[int]] = {"seen": [0, 0], "rewritten": [0, 0]}
    marked = 0
    reasons: dict[str, list[Any]] = {}
    with aside(one.folder / ROWS) as about, aside(one.folder / DROPPED) as dropped, Writer(about) as known, Writer(dropped) as lost:
        for number in range(chunks):
            summary = Summary.at(one.folder / f"{number:06d}.json")
            if summary is None:
                raise FileNotFoundError(f"{one.folder}: chunk {number} is not finished")
            files += summary.files
            for name, total in totals.items():
                total[:] = [a + b for a, b in zip(total, getattr(summary, name), strict=True)]
            marked += summary.marked
            for broken in summary.dropped:
                _count(broken, reasons)
            for name, _ in summary.files:
                known.write(read_table(one.folder / name, [column for column in ABOUT if column != "text"]))
            lost.write(broken_table(summary.dropped))
        if not chunks:
            lost.write(broken_table([]))
    names = [*(name for name, _ in files), *((ROWS,) if files else ()), DROPPED]
    one.finish(names, {"files": files, "chunks": chunks, "dropped": reasons, "marked": marked, **totals})


def _count(broken: Mapping[str, Any], reasons: dict[str, list[Any]]) -> None:
    """Documents and bytes of each reason, and the first example that has a note."""
    found = reasons.setdefault(broken["reason"], [0, 0, ""])
    found[0] += 1
    found[1] += broken["bytes"]
    if broken["note"] and not found[2]:
        found[2] = f"{broken['path']}: {broken['note']}"


def broken_table(dropped: Sequence[Mapping[str, Any]]) -> Any:
    """Dropped documents as a table with the fields of Broken."""
    import pyarrow as pa

    kinds = {one.name: pa.int64() if one.name == "bytes" else pa.string() for one in fields(Broken)}
    return pa.table({name: pa.array([row[name] for row in dropped], kind) for name, kind in kinds.items()})


def finish_columns(one: Annotation, texts: Annotation) -> None:
    """Join the columns of all files of the texts that they belong to."""
    files = texts.facts["files"]
    with aside(one.folder / VALUES) as part, Writer(part) as values:
        for name, rows in files:
            table = read_table(one.folder / name)
            if table.num_rows != rows:
                raise ValueError(f"{one.folder / name} has {table.num_rows} rows and its texts have {rows}")
            values.write(table)
    one.finish([VALUES] if files else [], {"rows": sum(rows for _, rows in files), "chunks": texts.facts["chunks"]})


def values_of(one: Annotation) -> Path:
    """The file with the columns of a whole annotation."""
    return one.folder / VALUES

"""Curate's last step: the corpus files, in the order of the sources, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bloomery.data.chunks import Chunks
    from bloomery.data.funnel import Funnel


def write(out: Path, chunks: Chunks, funnel: Funnel, parts: Mapping[str, Any], columns: Sequence[str], weights: Any) -> None:
    """train.parquet, heldout.parquet and dropped.parquet; `parts` are the rows of the first two, `weights` of all rows or None."""
    import pyarrow as pa

    from bloomery.data.funnel import unique
    from bloomery.data.tables import Writer

    ids = unique(chunks.ids.array)
    for name, rows in parts.items():
        with Writer(out / f"{name}.parquet") as writer:
            done = 0
            for part in chunks.parts(rows, columns) if len(rows) else [chunks.empty(columns)]:
                here = rows[done : done + part.num_rows]
                part = part.set_column(0, "id", ids.take(pa.array(here, pa.int64())))
                if weights is not None:
                    part = part.append_column("select.weight", pa.array(weights[here]))
                writer.write(part)
                done += part.num_rows
    write_dropped(out / "dropped.parquet", chunks, funnel, [name for name in columns if name != "text"], ids)


def write_dropped(path: Path, chunks: Chunks, funnel: Funnel, columns: Sequence[str], ids: Any) -> None:
    """What was left out, each with its reason: first what never became a row."""
    import pyarrow as pa

    from bloomery.data.tables import Writer

    texts = {"reason": pa.string(), "note": pa.string()}
    schema = pa.schema([*chunks.empty(columns).schema, *(pa.field(name, kind) for name, kind in texts.items())])
    with Writer(path) as writer:
        writer.write_groups(_dropped(chunks, funnel, columns, ids, schema), schema)


def _dropped(chunks: Chunks, funnel: Funnel, columns: Sequence[str], ids: Any, schema: Any) -> Iterator[Any]:
    import numpy as np
    import pyarrow as pa

    for lost in chunks.dropped():
        known = {name: lost.column(name) for name in lost.column_names}
        yield pa.table({one.name: known.get(one.name, pa.nulls(lost.num_rows, one.type)) for one in schema})
    gone = funnel.gone
    for begin, table in chunks.slices(columns):
        low, high = np.searchsorted(gone, [begin, begin + table.num_rows])
        rows = gone[low:high]
        told = [funnel.why(int(row), chunks.ids) for row in rows]
        found = table.take(pa.array(rows - begin)).set_column(0, "id", ids.take(pa.array(rows)))
        for k, name in enumerate(("reason", "note")):
            found = found.append_column(name, pa.array([one[k] for one in told], pa.string()))
        yield found

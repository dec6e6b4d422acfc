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
        named = unique(ids.take(pa.array(rows, pa.int64())))  # a row that stands here more than once gets a name for each time
        with Writer(out / f"{name}.parquet") as writer:
            done = 0
            for part in chunks.parts(rows, columns) if len(rows) else [chunks.empty(columns)]:
                here = rows[done : done + part.num_rows]
                part = part.set_column(0, "id", named.slice(done, part.num_rows))
                if weights is not None:
                    part = part.append_column("select.weight", pa.array(weights[here]))
                writer.write(part)
                done += part.num_rows
    write_dropped(out / "dropped.parquet", chunks, funnel, [name for name in columns if name not in ("text", "spans")], ids)


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
        found = found.set_column(columns.index("bytes"), "bytes", pa.array(funnel.sizes[rows]))
        for k, name in enumerate(("reason", "note")):
            found = found.append_column(name, pa.array([one[k] for one in told], pa.string()))
        yield found


SAMPLES = 3  # documents on each side of a threshold
EXCERPT = 600  # characters of each


def write_thresholds(path: Path, chunks: Chunks, keep: str) -> None:
    """The documents nearest to each limit that `keep` sets, on either side: what a look at a threshold is taken by."""
    import json

    from bloomery.draw.spreads import limits_of

    found = []
    for column, limits in limits_of(keep).items():
        values = chunks.column(column.removeprefix("document."))
        for sign, value in limits:
            sides = {side: _samples(chunks, values, rows) for side, rows in _beside(values, sign, value).items()}
            found.append({"column": column, "sign": sign, "value": value, **sides})
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _beside(values: Any, sign: str, value: float) -> dict[str, Any]:
    """Rows nearest to a limit on the side that it keeps and on the other; of rows equally near, the first."""
    import operator

    import numpy as np

    holds = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[sign](values, value)
    sides = {"kept": np.flatnonzero(holds), "dropped": np.flatnonzero(~holds & np.isfinite(values))}
    return {side: rows[np.argsort(np.abs(values[rows] - value), kind="stable")[:SAMPLES]] for side, rows in sides.items()}


def _samples(chunks: Chunks, values: Any, rows: Any) -> list[dict[str, Any]]:
    """What is shown of some rows."""
    found = {}
    for row in sorted(rows.tolist()):
        ((one,),) = (part.to_pylist() for part in chunks.parts([row], ["id", "path", "text"]))
        found[row] = {"id": one["id"], "path": one["path"], "value": float(values[row]), "text": one["text"][:EXCERPT]}
    return [found[row] for row in rows.tolist()]

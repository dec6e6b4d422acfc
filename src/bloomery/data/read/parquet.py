"""Parquet files: one document per row, only the columns that are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import COLUMNS, Broken, Options, Task, make
from bloomery.data.read import files
from bloomery.data.sources import CHUNK, Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files
ROWS = 256  # rows decoded at a time


def _open(path: str) -> Any:
    import pyarrow.parquet as pq

    files.head_of(path)
    with files.sound(path, "Parquet"):
        return pq.ParquetFile(path)


def _columns(options: Options) -> list[str]:
    named = (options.text, options.id, options.path, options.package, options.domain, options.licence)
    return list(dict.fromkeys(filter(None, named)))


def check(source: Source) -> None:
    """Refuse damaged or empty files, a missing column, and a text column that is not text."""
    import pyarrow as pa

    for path, _ in source.files:
        file = _open(path)
        names = file.schema_arrow.names
        for knob in COLUMNS:
            column = getattr(source.options, knob)
            if column and column not in names:
                raise BadInput(f"{path} has no column {column!r}; it has {', '.join(names)}; say `{knob}: NAME`")
        kind = file.schema_arrow.field(source.options.text).type
        if not any(
            is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary)
        ):
            raise BadInput(f"{path}: column {source.options.text!r} holds {kind}, not text; say `text: NAME`")
        if not file.metadata.num_rows:
            raise BadInput(f"{path} has no rows; remove it from the sources or fill it")


def size(source: Source) -> int:
    """Uncompressed bytes of the text column."""
    return sum(_bytes(_open(path).metadata, group, source.options.text) for path, _ in source.files for group in _groups(path))


def _groups(path: str) -> range:
    return range(_open(path).metadata.num_row_groups)


def _bytes(metadata: Any, group: int, text: str) -> int:
    columns = [metadata.row_group(group).column(i) for i in range(metadata.num_columns)]
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema.split(".")[0] == text)


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Row groups, cut into runs of rows of about one chunk."""
    for path, name in source.files:
        metadata, first = _open(path).metadata, 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            step = max(1, rows * CHUNK // max(CHUNK, _bytes(metadata, group, source.options.text)))
            for start in range(0, rows, step):
                yield Task("parquet", source.address, (path, name, group, start, min(start + step, rows), first), source.options, limit)
            first += rows


def read(task: Task) -> Iterator[Doc | Broken]:
    """Documents of rows `start` to `stop` of one row group; `file:row` is the path of each, rows counted from 1."""
    path, name, group, start, stop, first = task.where
    file = _open(path)
    columns = [column for column in _columns(task.options) if column in file.schema_arrow.names]
    row = 0
    for batch in _batches(path, file, group, columns):
        low, high = max(start - row, 0), min(stop - row, batch.num_rows)
        if low < high:
            for k, record in enumerate(records(batch.slice(low, high - low))):
                place = f"{name}:{first + row + low + k + 1}"
                if isinstance(record, Exception):
                    yield Broken("malformed", place, 0, f"column {task.options.text!r} is not valid UTF-8")
                else:
                    yield make(task, place, record[task.options.text], record)
        row += batch.num_rows
        if row >= stop:
            return


def _batches(path: str, file: Any, group: int, columns: list[str]) -> Iterator[Any]:
    """Record batches of one row group. Raises BadInput where the file is damaged."""
    with files.sound(path, "Parquet"):
        yield from file.iter_batches(batch_size=ROWS, row_groups=[group], columns=columns)


def records(batch: Any) -> Iterator[dict[str, Any] | Exception]:
    """Rows as dicts; a row whose bytes are not UTF-8 comes as its error, alone."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for k in range(batch.num_rows):
            try:
                yield batch.slice(k, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield error

"""Rows of Arrow tables as documents, without ever making a Python string of a value that is too long or not UTF-8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import COLUMNS, Broken, Options, Task, make
from bloomery.seams import Doc

AT_ONCE = 32_000_000  # bytes of text that become Python strings together


def columns(options: Options) -> list[str]:
    """The columns that a source's options name."""
    named = (options.text, options.id, options.path, options.package, options.domain, options.licence)
    return list(dict.fromkeys(filter(None, named)))


def demand_columns(path: str, schema: Any, options: Options) -> None:
    """Refuse a table without a named column, or whose text column holds no text."""
    import pyarrow as pa

    for knob in COLUMNS:
        column = getattr(options, knob)
        if column and column not in schema.names:
            raise BadInput(f"{path} has no column {column!r}; it has {', '.join(schema.names)}; say `{knob}: NAME`")
        if schema.names.count(column) > 1:
            raise BadInput(f"{path} has {schema.names.count(column)} columns {column!r}; give each a name of its own")
    kind = schema.field(options.text).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise BadInput(f"{path}: column {options.text!r} holds {kind}, not text; say `text: NAME`")


def documents(task: Task, batch: Any, place: Callable[[int], str]) -> Iterator[Doc | Broken]:
    """A document, or why there is none, for each row of a record batch; `place` names a row."""
    wanted = [name for name in columns(task.options) if name in batch.schema.names]
    lengths = _lengths(batch.column(wanted[0]))
    start = 0
    while start < batch.num_rows:
        if lengths[start] > task.limit:
            yield Broken("too long", place(start), lengths[start], f"{lengths[start]} bytes, more than max_document allows")
            start += 1
            continue
        stop, held = start + 1, lengths[start]
        while stop < batch.num_rows and lengths[stop] <= task.limit and held + lengths[stop] <= AT_ONCE:
            held += lengths[stop]
            stop += 1
        part = batch.slice(start, stop - start).select(wanted)
        for k, record in enumerate(records(part), start):
            if isinstance(record, Exception):
                yield Broken("malformed", place(k), lengths[k], f"column {task.options.text!r} is not valid UTF-8")
            else:
                yield make(task, place(k), record[task.options.text], record)
        start = stop


def _lengths(column: Any) -> list[int]:
    """Bytes of each value of a text column, 0 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        each = pc.binary_length(column.dictionary.cast(pa.large_binary())).fill_null(0)
        return each.take(column.indices).fill_null(0).to_pylist()
    return pc.binary_length(column.cast(pa.large_binary())).fill_null(0).to_pylist()


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

"""Parquet files: one document per row, only the columns that are needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task
from bloomery.data.read import files, places
from bloomery.data.read.pages import DICTIONARY, pages
from bloomery.data.read.rows import columns, demand_columns, documents
from bloomery.data.sources import CHUNK, Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files
ROWS = 256  # rows decoded at a time
CUTS = 8  # tasks of a row group at most: each decodes the group from its begin
LARGE, GROWTH = 1 << 26, 100  # a page that unpacks to more bytes than LARGE, and to more than GROWTH times its size, is a bomb


def _open(path: str, as_dictionary: list[str] | None = None) -> Any:
    import pyarrow.parquet as pq

    files.head_of(path)
    with files.sound(path, "Parquet"):
        handle = places.open_plain(path)
        if not handle.seekable():
            raise BadInput(f"{path}: the server cannot give parts of a file, which Parquet needs; fetch it first")
        return pq.ParquetFile(handle, read_dictionary=as_dictionary, pre_buffer=False)


def check(source: Source) -> None:
    """Refuse damaged or empty files, a missing column, and a text column that is not text."""
    for path, _ in source.files:
        with _open(path) as file:
            demand_columns(path, file.schema_arrow, source.options)
            if not file.metadata.num_rows:
                raise BadInput(f"{path} has no rows; remove it from the sources or fill it")


def size(source: Source) -> int:
    """Uncompressed bytes of the text column."""
    total = 0
    for path, _ in source.files:
        with _open(path) as file:
            total += sum(_bytes(file.metadata, group, source.options.text) for group in range(file.metadata.num_row_groups))
    return total


def _chunks(metadata: Any, group: int, names: list[str]) -> list[Any]:
    """What the footer says of the columns of a row group."""
    every = [metadata.row_group(group).column(i) for i in range(metadata.num_columns)]
    return [chunk for chunk in every if chunk.path_in_schema.split(".")[0] in names]


def _bytes(metadata: Any, group: int, text: str) -> int:
    return sum(chunk.total_uncompressed_size for chunk in _chunks(metadata, group, [text]))


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Row groups, cut into runs of rows of about one chunk, or into CUTS."""
    for path, name in source.files:
        with _open(path) as file:
            metadata, first = file.metadata, 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            step = max(1, -(-rows // CUTS), rows * CHUNK // max(CHUNK, _bytes(metadata, group, source.options.text)))
            for start in range(0, rows, step):
                yield Task("parquet", source.address, (path, name, group, start, min(start + step, rows), first), source.options, limit)
            first += rows


def looked(path: str, group: int, names: tuple[str, ...]) -> tuple[str, int]:
    """Why the pages of a row group must not be unpacked ("" where they may be), and the bytes of its largest dictionary."""
    return _looked(path, places.stamp(path), group, names)


@lru_cache(maxsize=64)
def _looked(path: str, stamp: tuple[int, ...], group: int, names: tuple[str, ...]) -> tuple[str, int]:
    largest = 0
    with _open(path) as file, places.open_plain(path) as handle:
        for chunk in _chunks(file.metadata, group, list(names)):
            start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
            for kind, unpacked, packed in pages(handle, start, chunk.total_compressed_size, path):
                if unpacked > max(LARGE, GROWTH * packed):
                    return f"a page of {packed} bytes that unpacks to {unpacked}", largest
                largest = max(largest, unpacked if kind == DICTIONARY else 0)
    return "", largest


def read(task: Task) -> Iterator[Doc | Broken]:
    """Documents of rows `start` to `stop` of one row group; `file:row` is the path of each, rows counted from 1."""
    path, name, group, start, stop, first = task.where
    with _open(path) as file:
        wanted = [column for column in columns(task.options) if column in file.schema_arrow.names]
    bomb, largest = looked(path, group, tuple(wanted))
    if bomb:
        yield Broken("bomb", f"{name}:{first + start + 1}-{first + stop}", 0, bomb)
        return
    row = 0
    with _open(path, wanted if largest * ROWS > LARGE * 4 else None) as file:  # a large value repeated is kept once
        for batch in _batches(path, file, group, wanted):
            low, high = max(start - row, 0), min(stop - row, batch.num_rows)
            if low < high:
                at = first + row + low + 1
                yield from documents(task, batch.slice(low, high - low), lambda k, at=at: f"{name}:{at + k}")
            row += batch.num_rows
            if row >= stop:
                return


def _batches(path: str, file: Any, group: int, names: list[str]) -> Iterator[Any]:
    """Record batches of one row group. Raises BadInput where the file is damaged."""
    with files.sound(path, "Parquet"):
        yield from file.iter_batches(batch_size=ROWS, row_groups=[group], columns=names, use_threads=False)

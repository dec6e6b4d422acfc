"""Arrow IPC files (.arrow, .feather) and streams (.arrows): one document per row.

The messages of both are looked at first: what a compressed buffer says that it unpacks to stands before it (Arrow columnar format,
"Compression"), and a batch that says too much is never handed to Arrow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Task
from bloomery.data.read import files, places
from bloomery.data.read.rows import columns, demand_columns, documents
from bloomery.data.sources import CHUNK, Source, fingerprint_files
from bloomery.seams import Doc

fingerprint = fingerprint_files
MAGIC = b"ARROW1\0\0"
LARGE, GROWTH = 1 << 26, 100  # a batch that unpacks to more bytes than LARGE, and to more than GROWTH times its size, is a bomb
SCHEMA, DICTIONARY, BATCH = 1, 2, 3  # kinds of messages (Message.fbs)


@dataclass(frozen=True)
class Looked:
    """A record batch as its message describes it."""

    rows: int
    packed: int  # bytes in the file
    unpacked: int  # bytes that its buffers say


class Flat:
    """A table of a flatbuffer: fields by their number. Raises struct.error or IndexError where it is damaged."""

    def __init__(self, data: Any, at: int) -> None:
        self.data, self.at = data, at
        self.names = at - struct.unpack_from("<i", data, at)[0]
        self.count = (struct.unpack_from("<H", data, self.names)[0] - 4) // 2

    def where(self, field: int) -> int:
        """Where the value of a field lies, 0 where it is absent."""
        step = struct.unpack_from("<H", self.data, self.names + 4 + 2 * field)[0] if field < self.count else 0
        return self.at + step if step else 0

    def number(self, field: int, form: str) -> int:
        return struct.unpack_from(form, self.data, at)[0] if (at := self.where(field)) else 0

    def inner(self, field: int) -> int:
        """Where a table or vector that a field points to begins, 0 where it is absent."""
        at = self.where(field)
        return at + struct.unpack_from("<I", self.data, at)[0] if at else 0


def described(message: Any) -> tuple[int, Looked]:
    """The kind of a message, and what it says of its batch."""
    data = memoryview(message.metadata)
    top = Flat(data, struct.unpack_from("<I", data, 0)[0])
    kind = top.number(1, "<B")
    body = message.body
    packed = body.size if body is not None else 0
    if kind not in (DICTIONARY, BATCH):
        return kind, Looked(0, packed, packed)
    batch = Flat(data, top.inner(2))
    if kind == DICTIONARY:
        batch = Flat(data, batch.inner(1))
    rows, unpacked = batch.number(0, "<q"), packed
    if batch.inner(3):
        vector, view, unpacked = batch.inner(2), memoryview(body), 0
        for k in range(struct.unpack_from("<I", data, vector)[0]):
            offset, length = struct.unpack_from("<qq", data, vector + 4 + 16 * k)
            stated = struct.unpack_from("<q", view, offset)[0] if length >= 8 else -1
            unpacked += length if stated < 0 else stated
    return kind, Looked(rows, packed, unpacked)


def _handle(path: str) -> Any:
    import pyarrow as pa

    if places.is_remote(path):
        return pa.PythonFile(places.open_plain(path), mode="r")
    return pa.memory_map(path)


def _is_file(path: str) -> bool:
    return files.head_of(path).startswith(MAGIC)


def looked(path: str) -> tuple[tuple[Looked, ...], str]:
    """Every record batch of a file, and why one of its messages must not be unpacked ("" where all may be)."""
    return _looked(path, places.stamp(path))


@lru_cache(maxsize=64)
def _looked(path: str, stamp: tuple[int, ...]) -> tuple[tuple[Looked, ...], str]:
    import pyarrow as pa

    found: list[Looked] = []
    whole = _is_file(path)
    with files.sound(path, "Arrow"), _handle(path) as handle:
        if whole:
            handle.read(len(MAGIC))
        reader = pa.ipc.MessageReader.open_stream(handle)
        while True:
            try:
                kind, about = described(reader.read_next_message())
            except StopIteration:
                return tuple(found), ""
            except (struct.error, IndexError, TypeError):
                raise BadInput(f"{path} is no Arrow file, or is damaged; write or fetch it again") from None
            if about.unpacked > max(LARGE, GROWTH * about.packed):
                return tuple(found), f"batch {len(found) + 1} of {about.packed} bytes says that it unpacks to {about.unpacked}"
            if kind == BATCH:
                found.append(about)


def check(source: Source) -> None:
    """Refuse damaged or empty files, a missing column, and a text column that is not text."""
    import pyarrow as pa

    for path, _ in source.files:
        batches, bomb = looked(path)
        whole = _is_file(path)
        with files.sound(path, "Arrow"), _handle(path) as handle:
            schema = (pa.ipc.open_file(handle) if whole else pa.ipc.open_stream(handle)).schema
        demand_columns(path, schema, source.options)
        if not sum(one.rows for one in batches) and not bomb:
            raise BadInput(f"{path} has no rows; remove it from the sources or fill it")


def size(source: Source) -> int:
    """Bytes of the files."""
    return sum(places.size_of(path) for path, _ in source.files)


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Runs of batches of about one chunk; where: file, name, batches from and to, rows before them, and why no more follow."""
    for path, name in source.files:
        batches, bomb = looked(path)
        start = held = first = rows = 0
        for k, one in enumerate(batches):
            held, rows = held + one.unpacked, rows + one.rows
            if held >= CHUNK:
                yield Task("arrow", source.address, (path, name, start, k + 1, first, ""), source.options, limit)
                start, held, first = k + 1, 0, rows
        if start < len(batches) or bomb:
            yield Task("arrow", source.address, (path, name, start, len(batches), first, bomb), source.options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """Documents of some batches; `file:row` is the path of each, rows counted from 1."""
    path, name, start, stop, first, bomb = task.where
    wanted = columns(task.options)
    for batch in _some(path, start, stop):
        kept = batch.select([column for column in wanted if column in batch.schema.names])
        yield from documents(task, kept, lambda k, at=first + 1: f"{name}:{at + k}")
        first += batch.num_rows
    if bomb:
        yield Broken("bomb", f"{name}:{first + 1}-", 0, f"{bomb}; no row from here on is read")


def _some(path: str, start: int, stop: int) -> Iterator[Any]:
    """Batches `start` to `stop`; those of a file before them are not touched, those of a stream are passed over."""
    import pyarrow as pa

    if start >= stop:
        return
    whole = _is_file(path)
    with files.sound(path, "Arrow"), _handle(path) as handle:
        if whole:
            reader = pa.ipc.open_file(handle)
            yield from (reader.get_batch(k) for k in range(start, stop))
        else:
            yield from islice(pa.ipc.open_stream(handle), start, stop)

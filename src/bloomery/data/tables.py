"""Parquet with deterministic bytes: the same table always becomes the same file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 4096  # rows per group: small enough that readers can stream
SMALL = 1 << 23  # bytes
FORMAT = {"compression": "zstd", "compression_level": 1, "store_schema": False}


def write_table(table: Any, path: str | Path) -> None:
    """Write a pyarrow table with fixed settings."""
    with Writer(path) as writer:
        writer.write(table)


class Writer:
    """Writes tables of one schema into one file, one after the other; row groups never depend on anything but the tables."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.file = path, None

    def write(self, table: Any) -> None:
        """Append the rows of a pyarrow table."""
        import pyarrow.parquet as pq

        table = table.replace_schema_metadata(None)
        if self.file is None:
            self.file = pq.ParquetWriter(self.path, table.schema, **FORMAT)
        self.file.write_table(table, row_group_size=ROWS)

    def write_groups(self, tables: Iterable[Any], schema: Any) -> None:
        """Append the rows of many tables in full groups, as `write` of their concatenation would; without any, an empty file."""
        import pyarrow as pa

        held = schema.empty_table()
        for table in tables:
            held = pa.concat_tables([held, table])
            while held.num_rows >= ROWS:
                self.write(held.slice(0, ROWS))
                held = held.slice(ROWS)
        if held.num_rows or self.file is None:
            self.write(held)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        if self.file is not None:
            self.file.close()


def read_table(path: str | Path, columns: list[str] | None = None) -> Any:
    """Read a whole Parquet file, or some of its columns, as a pyarrow table."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:  # for small files, threads cost more than they give
        return file.read(columns=columns, use_threads=Path(path).stat().st_size > SMALL)


class Slices:
    """Runs of rows of a Parquet file, which is read group by group; the last group stays at hand."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        import pyarrow.parquet as pq

        self.file, self.columns = pq.ParquetFile(path), list(columns)
        about = self.file.metadata
        self.ends = np.cumsum([about.row_group(k).num_rows for k in range(about.num_row_groups)])
        self.last: tuple[int, Any] = (-1, None)

    def rows(self, start: int, stop: int) -> Any:
        """The table of rows `start` to `stop`."""
        import pyarrow as pa

        first, last = np.searchsorted(self.ends, [start, max(start, stop - 1)], side="right")
        if start >= stop:
            return self.file.schema_arrow.empty_table().select(self.columns)
        tables = [self._group(group) for group in range(first, last + 1)]
        return pa.concat_tables(tables).slice(start - (int(self.ends[first - 1]) if first else 0), stop - start)

    def _group(self, group: int) -> Any:
        if self.last[0] != group:
            self.last = (group, self.file.read_row_group(group, columns=self.columns, use_threads=False))
        return self.last[1]

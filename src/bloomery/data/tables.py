"""Parquet with deterministic bytes: the same table always becomes the same file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

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

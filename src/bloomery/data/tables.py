"""Parquet with deterministic bytes: the same table always becomes the same file."""
from __future__ import annotations

from pathlib import Path
from typing import Any

ROWS = 4096  # rows per group: small enough that readers can stream


def write_table(table: Any, path: str | Path) -> None:
    """Write a pyarrow table with fixed settings (zstd, fixed row groups, no pandas or schema metadata)."""
    import pyarrow.parquet as pq

    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd", compression_level=1, row_group_size=ROWS, store_schema=False)


def read_table(path: str | Path, columns: list[str] | None = None) -> Any:
    """Read a whole Parquet file, or some of its columns, as a pyarrow table."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=columns)

"""The prepared chunks as one table: columns in memory, texts fetched from disk when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.data.minhash import PERMUTATIONS
from bloomery.data.tables import read_table


class Chunks:
    """Rows of all chunk files in order; only the texts stay on disk."""

    def __init__(self, files: Sequence[str | Path]) -> None:
        """Read every column but the text."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.files = list(files)
        names = [name for name in pq.read_schema(self.files[0]).names if name != "text"]
        parts = [read_table(file, names) for file in self.files]
        self.table = pa.concat_tables(parts)
        self.ends = np.cumsum([part.num_rows for part in parts])

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> np.ndarray:
        """One column as a numpy array (text as objects)."""
        return self.table.column(name).to_numpy(zero_copy_only=False)

    def texts(self, rows: Sequence[int]) -> list[str]:
        """The texts of ascending rows."""
        return [text for part in self.parts(rows, ["text"]) for text in part.column("text").to_pylist()]

    def parts(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[Any]:
        """Tables of the ascending `rows`, chunk by chunk, with the named columns in this order; `text` may be among them."""
        import pyarrow as pa

        wanted = np.asarray(rows, np.int64)
        begin = 0
        for file, end in zip(self.files, self.ends, strict=True):
            here = wanted[(wanted >= begin) & (wanted < end)]
            if len(here):
                yield read_table(file, list(columns)).select(list(columns)).take(pa.array(here - begin))
            begin = int(end)

    def signatures(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have a MinHash signature, and these signatures (rows, 128) uint32."""
        column = self.table.column("_signature").combine_chunks()
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        joined = b"".join(column.drop_null().to_pylist())
        return rows, np.frombuffer(joined, np.uint32).reshape(len(rows), PERMUTATIONS)

    def empty(self, columns: Sequence[str]) -> Any:
        """A table of no rows with the named columns, `text` among them."""
        return read_table(self.files[0], list(columns)).select(list(columns)).slice(0, 0)

"""Documents without their repeated passages: what stands in the place of some rows' texts and numbers, in files of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.data.columns import MARKS
from bloomery.data.passages import without
from bloomery.data.tables import Slices, Writer, read_table, write_table
from bloomery.data.texts import aside
from bloomery.data.trained_spans import listed, ranges
from bloomery.seams import Doc


@dataclass(frozen=True, eq=False)
class Cuts:
    """The rows of which something was cut, ascending, and what they are since."""

    rows: np.ndarray
    sizes: np.ndarray  # bytes of the texts that are left
    files: Sequence[tuple[Path, int]]  # these texts, in the order of the rows, and how many each file has
    values: Mapping[str, Path] = field(default_factory=dict)  # file of every column that was measured again
    readers: dict[Path, Slices] = field(default_factory=dict)  # of these files, once they were asked for

    def patched(self, table: Any, rows: np.ndarray) -> Any:
        """A table of the ascending `rows`, some of which may stand there more than once, as it is after cutting."""
        import pyarrow as pa

        at = np.searchsorted(self.rows, rows)
        cut = self.rows[np.minimum(at, len(self.rows) - 1)] == rows
        if not cut.any():
            return table
        at = at[cut]
        for place, name in enumerate(table.column_names):
            new = self._column(name, int(at[0]), int(at[-1]) + 1)
            if new is not None:
                new = new.take(pa.array(at - at[0])).cast(table.schema.field(name).type)
                source = np.arange(len(rows))
                source[cut] = len(rows) + np.arange(len(new))
                old = table.column(name).combine_chunks()
                table = table.set_column(place, name, pa.concat_arrays([old, new]).take(pa.array(source)))
        return table

    def _column(self, name: str, low: int, high: int) -> Any:
        """The values `low` to `high` of a column as an Arrow array; None for one that cutting leaves as it was."""
        import pyarrow as pa

        if name == "bytes":
            return pa.array(self.sizes[low:high])
        if name in ("text", MARKS):
            return pa.concat_arrays(list(self._stored(name, low, high)))
        if name not in self.values:
            return None
        path = self.values[name]
        if path not in self.readers:
            self.readers[path] = Slices(path, [one for one, place in self.values.items() if place == path])
        return pa.concat_arrays(self.readers[path].rows(low, high).column(name).chunks)

    def _stored(self, name: str, low: int, high: int) -> Iterator[Any]:
        begin = 0
        for path, count in self.files:
            if begin < high and begin + count > low:
                first, last = max(low - begin, 0), min(high - begin, count)
                yield from read_table(path, [name]).column(name).slice(first, last - first).chunks
            begin += count


def cut_texts(tables: Iterator[Any], passages: np.ndarray, folder: Path) -> tuple[np.ndarray, list[tuple[Path, int]]]:
    """Write the texts of tables without their passages: files below `folder`, with all columns of the tables.

    tables: those of the rows that have passages, ascending, with the columns of a file of texts. passages: (row, first token, end, ...),
    sorted, as `repeated_passages` gives them. Returns the bytes left of each text, 0 where a text has gone as a whole and is in no file,
    and the files with their numbers of texts.
    """
    import pyarrow as pa

    starts = np.flatnonzero(np.append(True, passages[1:, 0] != passages[:-1, 0]))
    parts = iter(np.split(passages[:, 1:3], starts[1:]))
    sizes: list[int] = []
    files: list[tuple[Path, int]] = []
    for number, table in enumerate(tables):
        rows = zip(table.column("text").to_pylist(), table.column(MARKS).to_pylist(), strict=True)
        docs = [without(Doc("", text, spans=ranges(marks)), next(parts)) for text, marks in rows]
        texts, marks = pa.array([doc.text for doc in docs], pa.string()), listed([doc.spans for doc in docs])
        here = np.array([len(doc.text.encode()) for doc in docs], np.int64)
        sizes += here.tolist()
        for name, new in (("text", texts), (MARKS, marks), ("bytes", pa.array(here))):
            table = table.set_column(table.column_names.index(name), name, new)
        if len(left := np.flatnonzero(here)):
            path = folder / f"{number:06d}-0000.parquet"
            with aside(path) as part:
                write_table(table.take(pa.array(left)), part)
            files.append((path, len(left)))
    return np.array(sizes, np.int64), files


def join_values(files: Sequence[Path], target: Path) -> None:
    """The columns of many files, in one."""
    with aside(target) as part, Writer(part) as values:
        values.write_groups(map(read_table, files), read_table(files[0]).schema)

"""The annotated documents of all sources as one table of rows: nothing is in memory but what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.columns import ABOUT, MARKS
from bloomery.data.finish import DROPPED, ROWS
from bloomery.data.measured import FAILED
from bloomery.data.minhash import PERMUTATIONS
from bloomery.data.tables import Slices, read_table

if TYPE_CHECKING:
    from bloomery.data.cutting import Cuts

AT_ONCE = 1 << 13  # rows read together
STORED = (*ABOUT, MARKS)  # columns that stand beside the texts


@dataclass(frozen=True)
class Part:
    """The rows of one source: its folder of texts, and the file of every other column."""

    folder: Path
    facts: Mapping[str, Any]  # of the texts' annotation
    columns: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> Sequence[tuple[str, int]]:
        """Names of the files of texts, and their rows."""
        return self.facts["files"]

    @cached_property
    def rows(self) -> int:
        return sum(rows for _, rows in self.files)

    def place(self, column: str) -> Path:
        return self.columns.get(column, self.folder / ROWS)


class Chunks:
    """Rows of all parts in order. Part by part, a column that stands in one file is read from there; texts stay on disk."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.sources = [part for part in parts if part.files]
        self.everything = list(parts)
        self.total = sum(part.rows for part in self.sources)
        self.cuts: Cuts | None = None  # what stands in the place of texts of which something was cut

    def __len__(self) -> int:
        return self.total

    def column(self, name: str) -> np.ndarray:
        """One numeric column as a numpy array."""
        return self.arrow(name).to_numpy()

    def arrow(self, name: str) -> Any:
        """One column as an Arrow array in pieces."""
        import pyarrow as pa

        found = pa.chunked_array([chunk for part in self.sources for chunk in read_table(part.place(name), [name]).column(name).chunks])
        return self._cut(pa.table({name: found}), np.arange(len(found))).column(name) if self.cuts else found

    def _cut(self, table: Any, rows: np.ndarray) -> Any:
        """A table of some rows as it is after passages were cut."""
        return self.cuts.patched(table, rows) if self.cuts else table

    @cached_property
    def ids(self) -> Strings:
        """The ids as the sources have them."""
        return Strings(self.arrow("id").combine_chunks())

    def forget(self) -> None:
        """Let go of what was read whole; it is read again when it is asked for."""
        self.__dict__.pop("ids", None)

    def columns(self, names: Sequence[str], rows: np.ndarray) -> Mapping[str, np.ndarray]:
        """Columns of some rows by name, each read when it is asked for."""
        return Lazy(self, names, rows)

    def coded(self, name: str, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """A column of text, of some rows, as numbers of the values that the whole column has."""
        import pyarrow as pa

        found = self.arrow(name).dictionary_encode().unify_dictionaries().combine_chunks()
        found = found if isinstance(found, pa.DictionaryArray) else found.chunk(0)
        return found.indices.to_numpy()[rows], found.dictionary.to_pylist()

    @property
    def seen(self) -> list[int]:
        """Documents and bytes that the sources hold."""
        return [sum(part.facts["seen"][k] for part in self.everything) for k in (0, 1)]

    @property
    def rewritten(self) -> list[int]:
        """Documents and bytes that edits took away."""
        return [sum(part.facts["rewritten"][k] for part in self.everything) for k in (0, 1)]

    @property
    def marked(self) -> bool:
        """Whether some document is not to be trained on as a whole."""
        return any(part.facts["marked"] for part in self.everything)

    @property
    def reasons(self) -> dict[str, list[Any]]:
        """Documents, bytes and an example of each reason for which documents did not become rows."""
        found: dict[str, list[Any]] = {}
        for part in self.everything:
            for reason, (documents, size, example) in part.facts["dropped"].items():
                total = found.setdefault(reason, [0, 0, ""])
                found[reason] = [total[0] + documents, total[1] + size, total[2] or example]
        return found

    def failed(self, signal: str) -> dict[int, str]:
        """Rows on which a signal failed, and how."""
        found: dict[int, str] = {}
        begin = 0
        for part in self.sources:
            column = read_table(part.columns[f"{signal}."], [FAILED]).column(FAILED)
            if column.null_count < len(column):
                rows = np.flatnonzero(column.is_valid().to_numpy())
                found.update((begin + int(row), column[int(row)].as_py()) for row in rows)
            begin += part.rows
        return found

    def slices(self, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """The named columns as tables of at most AT_ONCE rows, each with the number of its first row."""
        begin = 0
        for part in self.sources:
            readers = [Slices(path, [name for name in columns if part.place(name) == path]) for path in _places(part, columns)]
            for start in range(0, part.rows, AT_ONCE):
                stop = min(start + AT_ONCE, part.rows)
                table = _joined([one.rows(start, stop) for one in readers], columns)
                yield begin + start, self._cut(table, np.arange(begin + start, begin + stop))
            begin += part.rows

    def texts(self, rows: np.ndarray, folder: Path) -> Texts:
        """The texts of ascending rows, read each time they are gone through; `folder` is for what a reader must put aside."""
        return Texts(self, rows, folder)

    def text_column(self, rows: Sequence[int]) -> Any:
        """The texts of ascending rows as an Arrow array in pieces, which takes less than half of what Python's strings take."""
        import pyarrow as pa

        return pa.chunked_array([chunk for part in self.parts(rows, ["text"]) for chunk in part.column("text").chunks], pa.string())

    def parts(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[Any]:
        """Tables of the ascending `rows`, file by file, with the named columns in this order; `text` may be among them."""
        import pyarrow as pa

        wanted = np.asarray(rows, np.int64)
        own = [name for name in columns if name in STORED]
        begin = 0
        for part in self.sources:
            others = [name for name in columns if name not in STORED]
            readers = [Slices(path, [name for name in others if part.place(name) == path]) for path in _places(part, others)]
            start = 0
            for file, count in part.files:
                low, high = np.searchsorted(wanted, [begin + start, begin + start + count])
                if low < high:
                    tables = [read_table(part.folder / file, own)] if own else []
                    tables += [one.rows(start, start + count) for one in readers]
                    yield self._cut(_joined(tables, columns).take(pa.array(wanted[low:high] - begin - start)), wanted[low:high])
                start += count
            begin += part.rows

    def dropped(self) -> Iterator[Any]:
        """What did not become a row, as tables of the fields of documents.Broken."""
        import pyarrow.parquet as pq

        for part in self.everything:
            with pq.ParquetFile(part.folder / DROPPED) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group)

    def empty(self, columns: Sequence[str]) -> Any:
        """A table of no rows with the named columns."""
        part = self.sources[0]
        tables = [read_table(part.folder / part.files[0][0], [name for name in columns if name in STORED]).slice(0, 0)]
        others = [name for name in columns if name not in STORED]
        tables += [Slices(path, [name for name in others if part.place(name) == path]).rows(0, 0) for path in _places(part, others)]
        return _joined(tables, columns)

    def repeated(self, rows: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, list[bytes]]]:
        """Those of `rows` whose `_key` may be another's too, with their keys, in groups of about `most`; equal keys come in one group."""
        heads = np.empty(len(rows), np.uint64)
        for low, table in self._chosen("_key", rows):
            heads[low : low + table.num_rows] = _heads(table.column("_key"))
        values, counts = np.unique(heads, return_counts=True)
        again = np.isin(heads, values[counts > 1])
        groups = 1 + int(again.sum()) // most
        for group in range(groups):
            chosen = np.flatnonzero(again & (heads % np.uint64(groups) == group))
            keys = [key for _, table in self._chosen("_key", rows[chosen]) for key in table.column("_key").to_pylist()]
            yield rows[chosen], keys

    def signed(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Those of `rows` that have a MinHash signature, as places among them, and these signatures, uint32 (places, 128), in parts."""
        for low, table in self._chosen("_signature", rows):
            column = table.column("_signature")
            there = low + np.flatnonzero(column.is_valid().to_numpy())
            signed = column.drop_null().combine_chunks()
            if len(signed):
                yield there, np.frombuffer(signed.buffers()[1], np.uint32).reshape(-1, PERMUTATIONS)[signed.offset :][: len(signed)]

    def vectors(self, name: str, rows: np.ndarray, most: int) -> Vectors:
        """A column of vectors, of some ascending rows, read when some of them are asked for."""
        return Vectors(self, name, rows, most)

    def _chosen(self, column: str, rows: np.ndarray) -> Iterator[tuple[int, Any]]:
        """The values of some ascending rows, as tables, each with its place among them."""
        import pyarrow as pa

        for begin, table in self.slices([column]):
            low, high = np.searchsorted(rows, [begin, begin + table.num_rows])
            if low < high:
                yield int(low), table.take(pa.array(rows[low:high] - begin))


@dataclass(frozen=True)
class Lazy(Mapping[str, np.ndarray]):
    """Columns of some rows."""

    chunks: Chunks
    names: Sequence[str]
    rows: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise KeyError(name)
        return self.chunks.arrow(name).to_numpy()[self.rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """Texts of ascending rows, of which one file's at a time are in memory: in order they are read once, one by itself with its file."""

    chunks: Chunks
    rows: np.ndarray
    folder: Path  # of the step, for what is put aside

    def __iter__(self) -> Iterator[str]:
        for part in self.chunks.parts(self.rows, ["text"]):
            yield from part.column("text").to_pylist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        some = Texts(self.chunks, self.rows[place if isinstance(place, slice) else [place]], self.folder)
        return some if isinstance(place, slice) else next(iter(some))


@dataclass(frozen=True)
class Vectors:
    """A column of vectors of some rows, on disk until an array or slice of ascending places asks for theirs, float32 (places, width)."""

    chunks: Chunks
    name: str
    rows: np.ndarray
    most: int  # bytes that may be asked for together

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Any) -> np.ndarray:
        """BadInput where they take more memory than there is."""
        rows, found, begin = self.rows[places], [], 0
        for part in self.chunks.sources:
            some = rows[slice(*np.searchsorted(rows, [begin, begin + part.rows]))] - begin
            reader = Slices(part.place(self.name), [self.name]) if len(some) else None
            while len(some):
                stop = min(int(some[0]) + AT_ONCE, part.rows)
                column = reader.rows(int(some[0]), stop).column(self.name).combine_chunks()
                width, here = column.type.byte_width // 4, np.searchsorted(some, stop)
                if (size := 4 * width * len(rows)) > self.most:
                    least = f"{size / 1e6:.0f} MB, and {self.most / 1e6:.0f} MB are left of `memory`"
                    raise BadInput(f"select: the vectors of {len(rows)} documents take {least}; raise memory, or name a smaller target")
                numbers = np.frombuffer(column.buffers()[1], np.float32).reshape(-1, width)[column.offset :]
                found.append(numbers[some[:here] - some[0]])
                some = some[here:]
            begin += part.rows
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Strings:
    """Strings of an Arrow array by number, or by an array of numbers, as Python has them."""

    array: Any
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.array) if self.rows is None else len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        import pyarrow as pa

        at = np.asarray(row if self.rows is None else self.rows[row])
        found = self.array.take(pa.array(at.reshape(-1), pa.int64())).to_pylist()
        return found if at.ndim else found[0]

    def among(self, rows: np.ndarray) -> Strings:
        """The strings of some rows, by their place among these."""
        return Strings(self.array, rows if self.rows is None else self.rows[rows])


def _places(part: Part, columns: Sequence[str]) -> list[Path]:
    return list(dict.fromkeys(part.place(name) for name in columns))


def _joined(tables: Sequence[Any], columns: Sequence[str]) -> Any:
    import pyarrow as pa

    found = {name: table.column(name) for table in tables for name in table.column_names}
    return pa.table({name: found[name] for name in columns})


def _heads(keys: Any) -> np.ndarray:
    """The first eight bytes of each key, as a number."""
    return np.frombuffer(b"".join(key[:8] for key in keys.to_pylist()), np.uint64)

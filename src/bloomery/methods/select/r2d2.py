"""Select `r2d2`: tables whose rows another table has all of are left out."""

from __future__ import annotations

import csv
import hashlib
import io
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.data.budget import texts
from bloomery.seams import Rng

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # names of the columns, and the rows


@dataclass(frozen=True)
class R2d2:
    """Drops documents that are tables contained in another one: its columns, its range of values, then its rows, looked at in this order.

    P315 Shah et al. 2023, arXiv 2312.13427
    Differs: a contained table is dropped outright, as a larger one that is kept holds its every row; the paper weighs the cost of
        storing against that of making it again. Rows are compared all, by hashes, not by a sample, so no containment is claimed that
        does not hold. Documents are delimited text with a line of names; what is none is kept, and `budget` does not count.
    Costs: one parse of every document, and 32 bytes for a column of a table; rows are compared for pairs of tables that names and ranges
        (by the first 16 bytes of a cell) leave, see `funnel`, and read again where more than 262,144 are to be compared.
    """

    delimiter: str = ","  # between the cells of a row
    least: int = 2  # columns that a document must have to be a table
    reads = ("text",)  # columns beside the numbers of a document

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.least < 1:
            raise ValueError("delimiter is one character, and least at least 1")

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """1 for what stays, 0 for a table that one that stays contains; of equal tables the first stays. BadInput without texts."""
        documents = texts(columns, "r2d2")
        parsed = (read(text, self.delimiter, self.least) for text in documents)
        counted = Counted(lambda k: read(documents[k], self.delimiter, self.least))
        weights = np.ones(len(documents))
        for inner, names, outer, within in candidates(parsed):
            if any(counted.contains(inner, int(other), names) for other in outer[within]):
                weights[inner] = 0.0
        return weights


START = 16  # bytes of a cell by which ranges are told
HELD = 1 << 18  # rows as hashes in memory
LONGEST = 1 << 17  # characters of a cell; the reader's own limit is one for the whole process, and other code sets it


def read(text: str, delimiter: str, least: int) -> Table | None:
    """The table that a document is, or None: names that differ, and rows as long as these."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if line] if delimiter in text else []
    except csv.Error:  # a bare carriage return, or a cell that is too long for the reader as it stands
        return None
    if any(len(cell) > LONGEST for line in lines for cell in line):
        return None
    if len(lines) < 2 or len(lines[0]) < least or len(set(lines[0])) < len(lines[0]) or any(len(line) != len(lines[0]) for line in lines):
        return None
    return tuple(lines[0]), [tuple(line) for line in lines[1:]]


class Alike:
    """Tables of the same columns: their numbers, how many rows each has, and the range of each column, by the names in order."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names, self.numbers, self.lengths, self.held = names, array("q"), array("q"), bytearray()

    def add(self, number: int, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        self.numbers.append(number)
        self.lengths.append(len(rows))
        for place in map(names.index, self.names):
            cells = [row[place] for row in rows]
            for cell in (min(cells), max(cells)):
                self.held += cell[:START].encode("utf-8", "surrogatepass")[:START].ljust(START, b"\0")

    def ranges(self) -> np.ndarray:
        """Beginnings of the least and of the largest cell: bytes (tables, columns, 2), whose order is that of the cells."""
        return np.frombuffer(self.held, f"S{START}").reshape(len(self.numbers), len(self.names), 2)


def candidates(tables: Iterable[Table | None]) -> Iterator[tuple[int, tuple[str, ...], np.ndarray, np.ndarray]]:
    """Tables that may be contained, their names, the tables that may contain each by its names, and which of these may by their ranges too.
    Of two that contain each other the later one may be contained."""
    groups: dict[tuple[str, ...], Alike] = {}
    for number, table in enumerate(tables):
        if table:
            names = tuple(sorted(table[0]))
            groups.setdefault(names, Alike(names)).add(number, *table)
    having: dict[str, list[Alike]] = {}
    for group in groups.values():
        for name in group.names:
            having.setdefault(name, []).append(group)
    for inner in groups.values():
        for outer in min((having[name] for name in inner.names), key=len):
            if not set(inner.names) <= set(outer.names):
                continue
            numbers, lengths = np.array(outer.numbers), np.array(outer.lengths)
            ranges = outer.ranges()[:, [outer.names.index(name) for name in inner.names]]
            for number, length, (low, high) in zip(inner.numbers, inner.lengths, inner.ranges().transpose(0, 2, 1), strict=True):
                some = np.flatnonzero((length < lengths) | (length == lengths) & ((inner is not outer) | (number > numbers)))
                within = (ranges[some, :, 0] <= low).all(1) & (high <= ranges[some, :, 1]).all(1)
                if len(some):
                    yield number, inner.names, numbers[some], within


class Counted:
    """How often each row stands in a table, by its cells of some columns, as hashes; what was looked at lately is kept."""

    def __init__(self, table: Callable[[int], Table | None]) -> None:
        self.table, self.kept, self.rows = table, OrderedDict(), 0

    def counts(self, number: int, wanted: tuple[str, ...]) -> dict[bytes, int]:
        if (number, wanted) in self.kept:
            self.kept.move_to_end((number, wanted))
            return self.kept[number, wanted]
        names, rows = self.table(number)
        places, found = [names.index(name) for name in wanted], {}
        for row in rows:
            key = hashlib.sha256("\0".join(f"{len(row[p])}:{row[p]}" for p in places).encode("utf-8", "surrogatepass")).digest()[:16]
            found[key] = found.get(key, 0) + 1
        self.kept[number, wanted] = found
        self.rows += len(found)
        while self.rows > HELD and len(self.kept) > 2:
            self.rows -= len(self.kept.popitem(last=False)[1])
        return found

    def contains(self, inner: int, outer: int, wanted: tuple[str, ...]) -> bool:
        """Whether all rows of a table, by these columns, stand in another one, as often at least."""
        counts = self.counts(outer, wanted)
        return all(counts.get(key, 0) >= count for key, count in self.counts(inner, wanted).items())


def funnel(tables: list[Table | None]) -> list[list[tuple[int, int]]]:
    """Pairs (inner, outer) that may be contained by names, of those the ones by ranges, of those the ones by rows."""
    counted = Counted(tables.__getitem__)
    schema, ranged = [], []
    for inner, _, outer, within in candidates(tables):
        schema += [(inner, int(other)) for other in outer]
        ranged += [(inner, int(other)) for other in outer[within]]
    return [schema, ranged, [(a, b) for a, b in ranged if counted.contains(a, b, tables[a][0])]]

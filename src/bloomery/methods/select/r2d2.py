"""Select `r2d2`: tables whose rows another table has all of are left out."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
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
    Costs: one parse of every document; rows are compared for pairs of tables that names and ranges leave, see `funnel`.
    """

    delimiter: str = ","  # between the cells of a row
    least: int = 2  # columns that a document must have to be a table
    reads = ("text",)  # columns beside the numbers of a document

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.least < 1:
            raise ValueError("delimiter is one character, and least at least 1")

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any:
        """1 for what stays, 0 for a table that one that stays contains; of equal tables the first stays. BadInput without texts."""
        tables = [read(text, self.delimiter, self.least) for text in texts(columns, "r2d2")]
        weights = np.ones(len(tables))
        for inner, _ in funnel(tables)[-1]:
            weights[inner] = 0.0
        return weights


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


def funnel(tables: list[Table | None]) -> list[list[tuple[int, int]]]:
    """Pairs (inner, outer) that may be contained by names, of those the ones by ranges, of those the ones by rows."""
    known = [k for k, table in enumerate(tables) if table]
    names = {k: frozenset(tables[k][0]) for k in known}
    ranges = {k: {name: (min(cells), max(cells)) for name, *cells in zip(tables[k][0], *tables[k][1], strict=True)} for k in known}
    size = {k: (len(tables[k][1]), len(names[k])) for k in known}

    def smaller(a: int, b: int) -> bool:  # an order, so that of two tables that contain each other one stays
        return size[a][0] <= size[b][0] and (size[a] != size[b] or a > b)

    schema = [(a, b) for a in known for b in known if a != b and names[a] <= names[b] and smaller(a, b)]
    ranged = [(a, b) for a, b in schema if all(ranges[b][n][0] <= low and high <= ranges[b][n][1] for n, (low, high) in ranges[a].items())]
    rows: dict[tuple[int, tuple[str, ...]], dict[bytes, int]] = {}

    def counted(k: int, wanted: tuple[str, ...]) -> dict[bytes, int]:
        if (k, wanted) not in rows:
            places = [tables[k][0].index(name) for name in wanted]
            found: dict[bytes, int] = {}
            for row in tables[k][1]:
                key = hashlib.sha256("\0".join(f"{len(row[p])}:{row[p]}" for p in places).encode("utf-8", "surrogatepass")).digest()[:16]
                found[key] = found.get(key, 0) + 1
            rows[k, wanted] = found
        return rows[k, wanted]

    contained = []
    for a, b in ranged:
        outer = counted(b, tables[a][0])
        if all(outer.get(key, 0) >= count for key, count in counted(a, tables[a][0]).items()):
            contained.append((a, b))
    return [schema, ranged, contained]

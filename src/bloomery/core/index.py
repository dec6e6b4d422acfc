"""The index of a store: what `ls` shows of every card, in SQLite. It only saves reading the cards; the folders are the truth."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bloomery.core.errors import BadInput
from bloomery.core.store import Store


@dataclass(frozen=True)
class Row:
    """One artifact in a listing; `damaged` says what is wrong with it, empty where it is sound."""

    name: str
    stage: str = ""
    kind: str = ""
    step: str = ""
    recipe: str = ""
    made: str = ""
    seconds: float = 0.0
    bytes: int = 0
    address: str = ""
    damaged: str = ""


COLUMNS = [field.name for field in fields(Row)]


def rows(store: Store) -> list[Row]:
    """Every artifact, oldest first: the index brought up to date with the folders."""
    path = store.root / "index.sqlite"
    try:
        return _rows(store, path)
    except sqlite3.DatabaseError:
        for damaged in path.parent.glob("index.sqlite*"):
            damaged.unlink(missing_ok=True)
        return _rows(store, path)


def _rows(store: Store, path: Path) -> list[Row]:
    with _opened(path) as db:
        known = {row[0] for row in db.execute("SELECT name FROM artifacts WHERE damaged = ''")}
        there = {folder.name for folder in store.artifacts.iterdir()}
        db.executemany("DELETE FROM artifacts WHERE name = ?", [(name,) for name in known - there])
        db.execute("DELETE FROM artifacts WHERE damaged != ''")
        fresh = [asdict(_row(store, name)) for name in sorted(there - known)]
        db.executemany(f"INSERT OR REPLACE INTO artifacts VALUES ({', '.join(f':{name}' for name in COLUMNS)})", fresh)
        db.commit()
        return [Row(*row) for row in db.execute(f"SELECT {', '.join(COLUMNS)} FROM artifacts ORDER BY made, name")]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=30)) as db:
        db.execute(f"CREATE TABLE IF NOT EXISTS artifacts ({', '.join(COLUMNS)}, PRIMARY KEY (name))")
        if [row[1] for row in db.execute("PRAGMA table_info(artifacts)")] != COLUMNS:
            raise sqlite3.DatabaseError("an index of another version")
        yield db


def _row(store: Store, name: str) -> Row:
    try:
        card = store.open(store.artifacts / name).card
    except BadInput as wrong:
        return Row(name, damaged=str(wrong))
    cost = card.get("cost", {})
    return Row(
        name,
        card["stage"],
        card["kind"],
        card["step"],
        card["recipe"],
        card["made"],
        cost.get("seconds", 0.0),
        cost.get("disk", 0),
        card["address"],
    )

"""Replies of models and programs on disk, found again by what was asked: a database of JSON texts, whole after a kill at any instant."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

AT_ONCE = 500  # keys in one query


def key_of(*parts: Any) -> str:
    """64 hexadecimal digits of canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Replies:
    """A file of replies that several processes may use; a connection lasts for one call, so threads and forks do no harm."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "replies.sqlite"

    def known(self, keys: Sequence[str]) -> dict[str, Any]:
        """The replies that are there."""
        if not self.file.is_file():
            return {}
        found = {}
        with closing(self._open()) as db:
            for at in range(0, len(keys), AT_ONCE):
                some = keys[at : at + AT_ONCE]
                marks = ", ".join("?" * len(some))
                found |= dict(db.execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", some).fetchall())
        return {key: json.loads(text) for key, text in found.items()}

    def add(self, rows: Mapping[str, Any]) -> None:
        """All of `rows` or none; the first reply to a question stands."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as db, db:
            db.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", [(key, json.dumps(value)) for key, value in rows.items()])

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.file, timeout=60)
        db.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")
        return db

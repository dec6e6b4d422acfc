"""Finished items of a long piece of work, one JSON line each, which survive a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Journal:
    """`rows` maps an item's id to its line. A line that a kill tore is forgotten: its item is run again."""

    def __init__(self, path: Path) -> None:
        """Read what is there; `path` and its folder are made at the first `add`."""
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        whole = 0
        if path.is_file():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                row = json.loads(line)
                self.rows[row["id"]] = row
                whole += len(line)
            os.truncate(path, whole)

    def __contains__(self, item: str) -> bool:
        return item in self.rows

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append finished items, each with its `id`, and wait until the disk has them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        self.rows |= {row["id"]: row for row in rows}

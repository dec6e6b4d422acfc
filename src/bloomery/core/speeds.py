"""What has been measured on this machine once, by name: a JSON file beside the store's machine.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from bloomery.core.files import write_json


class Speeds:
    """Numbers that are measured where they are first asked for; without a path they are kept for as long as this lives."""

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.known, self.new = path, {}, False
        if path is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                self.known = {str(name): float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}

    def of(self, name: str, measure: Callable[[], float]) -> float:
        """The number of that name."""
        if name not in self.known:
            self.known[name], self.new = measure(), True
        return self.known[name]

    def write(self) -> None:
        """Keep what is new; where the disk does not take it, it is measured again another time."""
        if self.path is not None and self.new:
            with contextlib.suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, dict(sorted(self.known.items())))
                self.new = False

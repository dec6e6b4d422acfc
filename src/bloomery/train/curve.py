"""The curve of a run: one JSON line per step in a file that is never behind the checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bloomery.core.files import to_disk


class Curve:
    """Open for writing, from `step` on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def append(self, row: Mapping[str, Any]) -> None:
        """One step's figures."""
        self.file.write(json.dumps(row) + "\n")

    def to_disk(self) -> None:
        """All that was written."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def cut(self, step: int) -> None:
        """Drop what came after `step`."""
        self.close()
        cut_curve(self.path, step)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Curve:
        return self

    def __exit__(self, *failed: Any) -> None:
        self.close()


def cut_curve(path: Path, step: int) -> int:
    """Drop what was written after the checkpoint of `step`, a torn last line included; returns the lines kept.

    Written aside and renamed, so that a kill here leaves the old curve or the new one.
    """
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            break
    aside = path.with_name(f"{path.name}.tmp")
    aside.write_text("".join(kept), encoding="utf-8")
    to_disk(aside)
    os.replace(aside, path)
    return len(kept)

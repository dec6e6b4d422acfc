"""Checkpoints: a folder with tensors (safetensors) and state (JSON), complete or absent.

Each is written under a temporary name, brought to the disk and renamed, so a kill at any instant leaves the older ones whole.
Nothing is pickled. The state carries the hash of the tensors: a folder that does not agree with itself is passed over.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.core.files import sha256_file, to_disk

TENSORS, STATE, NAME, TORN = "tensors.safetensors", "state.json", "step-", "torn-"


class Checkpoints:
    """The checkpoints of one run in `folder`; the newest `keep` are kept."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
        """Write one checkpoint; it exists when this returns, whatever happens after. An existing one of this step is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{TORN}*"):
            shutil.rmtree(left)
        torn = self.folder / f"{TORN}{step}"
        torn.mkdir()
        save_file(tensors, str(torn / TENSORS))
        text = json.dumps({"sha256": sha256_file(torn / TENSORS), **state}, allow_nan=False)
        (torn / STATE).write_text(text + "\n", encoding="utf-8")
        for path in (torn / TENSORS, torn / STATE, torn):
            to_disk(path)
        final = self.folder / f"{NAME}{step:012d}"
        if final.exists():
            os.rename(final, self.folder / f"{TORN}old")
        os.rename(torn, final)
        to_disk(self.folder)
        for old in [*self._folders()[self.keep :], *self.folder.glob(f"{TORN}*")]:
            shutil.rmtree(old)
        return final

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and state of the newest complete checkpoint, None when there is none."""
        for folder in self._folders():
            try:
                state = json.loads((folder / STATE).read_text(encoding="utf-8"))
                if state.pop("sha256") == sha256_file(folder / TENSORS):
                    return load_file(str(folder / TENSORS)), state
            except (OSError, ValueError, KeyError):
                continue
        return None

    def _folders(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob(f"{NAME}*"), reverse=True)

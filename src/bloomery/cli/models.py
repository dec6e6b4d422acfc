"""Models as commands name them: a step or artifact of the store, a folder, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    from bloomery.infer.model import Model


def open_model(name: str, store: Path) -> Model:
    """The loaded model, or a sentence about what there is instead."""
    from bloomery.core.inputs import with_base
    from bloomery.core.store import Store
    from bloomery.infer.model import load

    if Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        return load(name)
    opened = Store(store, make=False)
    found = with_base(opened.get(name), opened)
    if found.kind not in ("model", "folder"):
        raise BadInput(f"{found.name} is a {found.kind}, not a model; `bloomery ls` shows the models")
    return load(found.folder)

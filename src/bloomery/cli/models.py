"""Models as commands name them: a step or artifact of the store, a folder, a GGUF file, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput

if TYPE_CHECKING:
    from bloomery.infer.engines import Opened


def model_place(name: str, store: Path) -> str | Path:
    """Where a model lies, or a hub id; BadInput with a sentence about what there is instead."""
    from bloomery.core.inputs import with_base
    from bloomery.core.store import Store

    if Path(name).is_dir() or name.endswith(".gguf") or (name.count("/") == 1 and not name.startswith((".", "/", "~"))):
        return name
    opened = Store(store, make=False)
    found = with_base(opened.get(name), opened)
    if found.kind not in ("model", "folder"):
        raise BadInput(f"{found.name} is a {found.kind}, not a model; `bloomery ls` shows the models")
    return found.folder


def open_model(
    name: str, store: Path, engine: str = "auto", *, guess: str = "", adapters: dict[str, Path] | None = None, **native: Any
) -> Opened:  # fmt: skip
    """The model, open for the engine that is asked for; `guess`, `adapters` and `native` are how the native one runs it."""
    place = model_place(name, store)
    drafted = model_place(guess, store) if guess not in ("", "lookup") else guess
    from bloomery.infer.engines import Native, open_engine

    return open_engine(place, engine, Native(guess=drafted, **native), adapters)


def adapters_of(named: list[str], store: Path) -> dict[str, Path]:
    """Adapters given as NAME=MODEL, by name."""
    found: dict[str, Path] = {}
    for one in named:
        name, _, model = one.partition("=")
        if not name or not model:
            raise BadInput(f"--adapter {one}: say NAME=MODEL, such as polite=runs/polite")
        if name in found:
            raise BadInput(f"--adapter: two adapters are called {name}; give one of them another name")
        found[name] = Path(model_place(model, store))
    return found

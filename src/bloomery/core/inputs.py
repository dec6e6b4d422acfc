"""What goes into a step: artifacts of the store and folders from outside it, found, addressed and handed over as its knobs ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core import lineage
from bloomery.core.adapter import located
from bloomery.core.errors import BadInput
from bloomery.core.files import files_below, sha256_file
from bloomery.core.recipe import Ref, Step
from bloomery.core.store import Artifact, Store

if TYPE_CHECKING:
    from bloomery.core.catalog import Entry


def gathered(entry: Entry, found: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The values of a stage's artifact knobs: one artifact or None, a tuple, or a mapping of role names (`roles.judge`) to artifacts."""
    values: dict[str, Any] = {name: {} for name, knob in entry.knobs.items() if knob.artifact and knob.named}
    for name, artifacts in found.items():
        knob, _, role = name.partition(".")
        one = artifacts[0] if artifacts else None
        if role:
            values[knob][role] = one
        else:
            values[knob] = artifacts if entry.knobs[knob].many else one
    return values


def given(ref: Ref, store: Store, step: Step | None = None, knob: str = "") -> Artifact:
    """An input that no step of the recipe makes: an artifact of the store, or a folder from outside, addressed by its content."""
    if ref.artifact:
        with _placed(step, knob):
            found = store.get(ref.artifact)
        wanted = step.input(knob).artifact if step else "*"
        if wanted not in ("*", found.kind):
            raise BadInput(f"{step.place}.{knob}: a {wanted} is asked for, and {found.name} is a {found.kind}")
        return with_base(found, store)
    folder = Path(ref.folder)
    paths = [folder] if folder.is_file() else files_below(folder)
    files = {path.name if folder.is_file() else str(path.relative_to(folder)): _content(path) for path in paths}
    if not files:
        raise BadInput(f"{folder}: this folder is empty; name one that holds a model or data")
    facts = {"bytes": sum(path.stat().st_size for path in paths)}
    card = {"kind": "folder", "stage": "outside", "facts": facts, "step": str(folder)}
    if (base := base_of(folder)) is not None:
        files["base"] = given(Ref(folder=str(base)), store).address
    return Artifact(lineage.address({"outside": files}), folder, card)


@contextmanager
def _placed(step: Step | None, knob: str) -> Iterator[None]:
    """A sentence about a name gets the place of the recipe that gives it."""
    try:
        yield
    except BadInput as wrong:
        raise BadInput(f"{step.place}.{knob}: {wrong}" if step else str(wrong)) from None


def base_of(folder: Path) -> Path | None:
    """The folder of the model that an adapter in `folder` belongs to, where there is one and it is on this machine."""
    found = _named_base(folder)
    return found if found is not None and found.is_dir() and found.resolve() != folder.resolve() else None


def _named_base(folder: Path) -> Path | None:
    """What an adapter's configuration names as its base, whether it is there or not; None for a folder without one."""
    try:
        named = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(located(folder, named)) if isinstance(named, str) and named else None


def with_base(artifact: Artifact, store: Store) -> Artifact:
    """The same artifact; BadInput for an adapter whose base, a folder from outside, is not what it was trained on."""
    base = _named_base(artifact.folder)
    for address, folder in artifact.card.get("folders", {}).items() if base is not None else ():
        if Path(folder).resolve() != base.resolve():
            continue  # what was only read to make the adapter
        if not Path(folder).exists() or given(Ref(folder=folder), store).address != address:
            raise BadInput(f"{artifact.name} is an adapter of {folder}, whose content has changed since; bring it back, or tune again")
    return artifact


def _content(path: Path) -> str:
    """The hash of a file from outside, computed once for as long as the file does not change."""
    about = path.stat()
    return _hashed(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _hashed(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)


def ancestor(artifact: Artifact, address: str, store: Store) -> Artifact:
    """An input of an artifact: another one, or the folder from outside, which must still hold what it held."""
    folder = artifact.card.get("folders", {}).get(address)
    if folder is None:
        return with_base(store.get(address), store)
    found = given(Ref(folder=folder), store)
    if found.address != address:
        raise BadInput(f"{artifact.name} came from {folder}, whose content has changed since; nothing can be measured against it")
    return found

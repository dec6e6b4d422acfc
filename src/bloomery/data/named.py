"""Sets of documents that a method's knob names, read whole: what signals are trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.files import sha256_file
from bloomery.data import sources
from bloomery.data.documents import Broken
from bloomery.seams import Doc

LONGEST = 10_000_000  # bytes of a document


def texts(address: str, knob: str) -> list[str]:
    """The documents of an address as `sources:` knows them, in its order; BadInput where there are none."""
    if not address:
        raise BadInput(f"{knob} is empty; name the documents to train on, such as good/*.jsonl")
    return [doc.text for doc in _read(address, knob)]


def labelled(address: str, column: str, knob: str) -> dict[str, list[str]]:
    """The documents of an address by what a column of theirs says, in its order; BadInput where there are none."""
    found: dict[str, list[str]] = {}
    for doc in _read({"from": address, "domain": column}, knob):
        found.setdefault(doc.meta["domain"], []).append(doc.text)
    return found


def _read(source: Any, knob: str) -> list[Doc]:
    """Documents that have text. BadInput where there are none."""
    try:
        opened = sources.open_sources([source])
    except BadInput as wrong:
        raise BadInput(f"{knob}: {wrong}") from None
    every = (doc for task in sources.tasks(opened, LONGEST) for doc in sources.read(task))
    found = [doc for doc in every if not isinstance(doc, Broken) and doc.text.strip()]
    if not found:
        address = source["from"] if isinstance(source, dict) else source
        raise BadInput(f"{knob}: {address} holds no documents")
    return found


def fingerprints(methods: Iterable[Any]) -> dict[str, Any]:
    """What the files hold that edits and signals read besides the corpus: knobs named in `outside`, for the address of a step. Methods are
    built or, as while planning, still what the recipe says. BadInput for one of `required` that is empty, and for files that are not
    there."""
    known: dict[str, Any] = {}
    for method in methods:
        ((called, knobs),) = (method if isinstance(method, Mapping) else catalog.spec(method)).items()
        seam = "edit" if called in catalog.entries("edit") else "signal"
        for knob in catalog.attribute(seam, method, "outside") or ():
            place = knobs[knob]
            name = f"{called}.{knob}"
            if not place and knob in (catalog.attribute(seam, method, "required") or ()):
                raise BadInput(f"{name} is empty; name the documents to train on, such as good/*.jsonl")
            if not place:
                continue
            path = Path(place) / "tokenizer.json" if knob == "tokenizer" and Path(place).is_dir() else Path(place)
            try:
                known[name] = sha256_file(path) if path.is_file() else sources.fingerprint(sources.open_sources([place]))
            except BadInput as wrong:
                raise BadInput(f"{name}: {wrong}") from None
    return known

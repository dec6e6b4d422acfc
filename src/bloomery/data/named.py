"""Sets of documents that a method's knob names, read whole: what signals are trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.core.files import sha256_file
from bloomery.data import sources
from bloomery.data.documents import Broken

LONGEST = 10_000_000  # bytes of a document


def texts(address: str, knob: str) -> list[str]:
    """The documents of an address as `sources:` knows them, in its order; BadInput where there are none."""
    if not address:
        raise BadInput(f"{knob} is empty; name the documents to train on, such as good/*.jsonl")
    try:
        opened = sources.open_sources([address])
    except BadInput as wrong:
        raise BadInput(f"{knob}: {wrong}") from None
    found = [doc.text for task in sources.tasks(opened, LONGEST) for doc in sources.read(task) if not isinstance(doc, Broken)]
    found = [text for text in found if text.strip()]
    if not found:
        raise BadInput(f"{knob}: {address} holds no documents")
    return found


def fingerprints(methods: Iterable[Any]) -> dict[str, Any]:
    """What the files hold that methods read besides the corpus: knobs named in `outside`, for the address of a step. BadInput for one of
    `required` that is empty, and for files that are not there."""
    from pathlib import Path

    known: dict[str, Any] = {}
    for method in methods:
        for knob in getattr(method, "outside", ()):
            place = getattr(method, knob)
            name = f"{type(method).__module__.rpartition('.')[2]}.{knob}"
            if not place and knob in getattr(method, "required", ()):
                raise BadInput(f"{name} is empty; name the documents to train on, such as good/*.jsonl")
            if not place:
                continue
            path = Path(place) / "tokenizer.json" if knob == "tokenizer" and Path(place).is_dir() else Path(place)
            try:
                known[name] = sha256_file(path) if path.is_file() else sources.fingerprint(sources.open_sources([place]))
            except BadInput as wrong:
                raise BadInput(f"{name}: {wrong}") from None
    return known

"""What proving has shown so far: one JSON file for each file of claims, in the store and beside the claim. Light, so that listings
may read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core import catalog, lineage
from bloomery.core.errors import BadInput
from bloomery.core.files import write_json
from bloomery.lab.claims import Claim

FORMAT = 1
PARTS = ("methods", "num")  # what a claim is about, with all that it imports
INSTRUMENTS = ("lab", "infer", "rewrite")  # what a claim measures with
ON_RECORD = {"seam": str, "name": str, "verdict": str, "date": str, "seeds": list, "sources": dict, "claims": list}


@dataclass(frozen=True)
class Known:
    """The newest record of a claim; `stale` where the method, what it imports, or the claim has changed since."""

    record: dict[str, Any]
    stale: bool

    @property
    def verdict(self) -> str:
        return self.record["verdict"]

    @property
    def shown(self) -> str:
        """The verdict as listings show it."""
        return f"{self.verdict} (stale)" if self.stale else self.verdict


def sources(claim: Claim, cards: Iterable[Mapping[str, Any]] = ()) -> dict[str, str]:
    """The hashes of all that a verdict speaks of: the claim, its method, those of the trials on the cards (the baseline's among them),
    the methods and arithmetic that the claim imports, what these import, and the instruments that the claim reads with. Not the
    protocols, which any new method may extend, nor stages, worlds and the training loop, whose version the record has."""
    methods = {entry.module: entry for card in cards for entry in _methods(card)}
    used = [name for part in PARTS for name in lineage.imported(claim.file, f"bloomery.{part}.")]
    code = lineage.closure([*([claim.method] if claim.method else ()), *methods.values()]).sources | lineage.code(used)["sources"]
    read = [name for part in INSTRUMENTS for name in lineage.imported(claim.file, f"bloomery.{part}.")]
    parts = {name: digest for name in read if (digest := lineage.digest(name))}
    own = {f"claims/{claim.title}.py": hashlib.sha256(claim.file.read_bytes()).hexdigest()}
    return dict(sorted({name: digest for name, digest in {**code, **parts, **own}.items() if name != "bloomery.seams"}.items()))


def _methods(card: Mapping[str, Any]) -> Iterator[catalog.Entry]:
    """The methods of the step that a card is of."""
    stage = catalog.entries("stage").get(card["stage"])
    return lineage.methods_of(stage, card["knobs"]) if stage else iter(())


def changed(record: Mapping[str, Any], claim: Claim) -> bool:
    """Whether any source that a record speaks of is another by now, or gone."""
    own = f"claims/{claim.title}.py"
    now = {name: lineage.digest(name) for name in record["sources"] if not name.startswith("claims/")} | sources(claim)
    return own not in record["sources"] or any(record["sources"].get(name) != digest for name, digest in now.items())


def stored(root: Path, claim: Claim) -> Path:
    """Where the store of `root` keeps the record of a claim; that of a file of one's own is kept by its name and place."""
    place = "" if claim.seam else "-" + hashlib.sha256(str(claim.file.resolve()).encode()).hexdigest()[:8]
    return root / "evidence" / (claim.seam or "own") / f"{claim.name}{place}.json"


def shipped(claim: Claim) -> Path:
    """Where a recorded result lies: beside the claim."""
    return claim.file.with_suffix(".json")


def read(path: Path) -> dict[str, Any] | None:
    """A record; None where there is none, BadInput where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in ON_RECORD.items()):
        raise BadInput(f"{path} is damaged: it is no record of a claim; remove the file, then prove again")
    return found


def write(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def keep(path: Path, record: Mapping[str, Any]) -> bool:
    """Write a record, unless the one there speaks of the same code and of more seeds; whether it was written."""
    old = read(path)
    if old is not None and old["sources"] == record["sources"] and len(old["seeds"]) > len(record["seeds"]):
        return False
    write(path, record)
    return True


def newest(claim: Claim, root: Path | None) -> Known | None:
    """What is best known of a claim, in the store or as shipped: of the present code, then of more seeds, then newer."""
    places = [shipped(claim)] if root is None else [stored(root, claim), shipped(claim)]
    found = [Known(record, changed(record, claim)) for place in places if (record := read(place)) is not None]
    return max(found, key=lambda one: (not one.stale, len(one.record["seeds"]), one.record["date"]), default=None)


def stalest_first(claims: list[Claim], root: Path) -> list[Claim]:
    """Never proven, then stale, then the oldest."""

    def age(claim: Claim) -> tuple[int, str]:
        known = newest(claim, root)
        return (0, "") if known is None else (1 if known.stale else 2, known.record["date"])

    return sorted(claims, key=age)


def recorded(claims: list[Claim]) -> list[tuple[Claim, Known]]:
    """The claims that have a shipped result, with it."""
    found = [(claim, newest(claim, None)) for claim in claims]
    return [(claim, known) for claim, known in found if known is not None]

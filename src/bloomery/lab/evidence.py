"""What proving has shown so far: one JSON file for each file of claims, in the store and beside the claim. Light, so that listings
may read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core import lineage
from bloomery.core.errors import BadInput
from bloomery.core.files import write_json
from bloomery.lab.claims import Claim

FORMAT = 1
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


def sources(claim: Claim) -> dict[str, str]:
    """The hashes of all that a verdict speaks of: the method, the modules that it imports, and the claim."""
    code = lineage.closure([claim.method]).sources if claim.method else {}
    return {**code, f"claims/{claim.title}.py": hashlib.sha256(claim.file.read_bytes()).hexdigest()}


def stored(root: Path, claim: Claim) -> Path:
    """Where the store of `root` keeps the record of a claim; that of a file of one's own is kept by its name."""
    return root / "evidence" / (claim.seam or "own") / f"{claim.name}.json"


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


def newest(claim: Claim, root: Path | None) -> Known | None:
    """The newer one of the store's record and the shipped one."""
    places = [shipped(claim)] if root is None else [stored(root, claim), shipped(claim)]
    found = [record for place in places if (record := read(place)) is not None]
    if not found:
        return None
    record = max(found, key=lambda one: one["date"])
    return Known(record, record["sources"] != sources(claim))


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

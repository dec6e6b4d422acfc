"""The 448 papers that the catalogue is measured against; `P385` names one in a method's docstring."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Paper:
    id: str
    name: str
    title: str
    scope: str
    seam: str


def papers() -> dict[str, Paper]:
    """All papers by id, in order."""
    with files("bloomery.core").joinpath("bibliography.csv").open(encoding="utf-8", newline="") as lines:
        return {row["id"]: Paper(**row) for row in csv.DictReader(lines)}

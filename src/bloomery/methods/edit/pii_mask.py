"""Edit `pii_mask`: personal data and secrets give way to marks."""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.data.personal import KINDS, find
from bloomery.data.spans import changed
from bloomery.seams import Doc, Drop, Rng, Tools


@dataclass(frozen=True)
class PiiMask:
    """E-mail and IP addresses, telephone numbers, card numbers and keys become <EMAIL>, <IP_ADDRESS>, <PHONE>, <CARD> and <KEY>.

    Source: standard practice; marks as in Li et al. 2023, arXiv 2305.06161 (StarCoder), and Penedo et al. 2024, arXiv 2406.17557.
    Differs: patterns alone (data/personal.py): names and postal addresses stay. Marks, not invented data, so nothing false is learned.
    Costs: some passes over the characters, linear for any text.
    """

    kinds: tuple[str, ...] = ("email", "ip", "phone", "card", "key")  # what is masked

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds are some of {', '.join(KINDS)}")

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """The document itself where nothing is found; trained spans stay on what they marked, and take a mark in whole."""
        marks = {"email": "<EMAIL>", "ip": "<IP_ADDRESS>", "phone": "<PHONE>", "card": "<CARD>", "key": "<KEY>"}
        while found := find(doc.text, self.kinds):  # again, as a number that ran into an address stands free once that is masked
            doc = changed(doc, [(start, stop, marks[kind]) for start, stop, kind in found])
        return [doc]

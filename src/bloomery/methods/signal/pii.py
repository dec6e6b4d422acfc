"""Signal `pii`: personal data and secrets in a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.data.personal import KINDS, find
from bloomery.seams import Doc, Tools


@dataclass(frozen=True)
class Pii:
    """How many e-mail and IP addresses, telephone numbers, card numbers and keys a document holds.

    Source: standard practice; the kinds of Li et al. 2023, arXiv 2305.06161 (StarCoder's redaction).
    Differs: patterns alone (data/personal.py), so names and postal addresses are not found; card numbers must hold Luhn's check.
    Costs: some passes over the characters, linear for any text.
    """

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """email, ip, phone, card, key (numbers of them), share (of the characters)."""
        found = [find(doc.text) for doc in docs]
        columns = {kind: [float(sum(one[2] == kind for one in here)) for here in found] for kind in KINDS}
        covered = [sum(stop - start for start, stop, _ in here) / max(1, len(doc.text)) for here, doc in zip(found, docs, strict=True)]
        return {**columns, "share": covered}

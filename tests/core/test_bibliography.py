"""The bibliography."""

from __future__ import annotations

from bloomery.core.bibliography import papers
from bloomery.seams import SEAMS


def test_all_papers_are_there_and_name_known_seams():
    found = papers()
    assert len(found) == 448 and list(found)[:2] == ["P000", "P001"]
    assert found["P385"].title.startswith("GaLore")
    seams = {seam for paper in found.values() for seam in paper.seam.split(" + ") if seam}
    assert len(seams & set(SEAMS)) == 22

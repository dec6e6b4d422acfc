"""The corpus contests: our side of the filters, and what counts as near."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PROSE = " ".join(f"The {word} of the house is with you, and that was the story they have told." for word in ("door", "roof", "wall", "key"))


@pytest.mark.parametrize("name, sets", [("bloomery:datatrove", 3), ("bloomery:data-juicer", 1)])
def test_our_filters_judge_every_document(name: str, sets: int) -> None:
    verdicts = runpy.run_path(str(FOLDER / "peers" / "filter_worker.py"))["CONTESTANTS"][name]()
    found = verdicts(["", "x " * 400, PROSE])
    assert [len(one) for one in found] == [sets] * 3
    assert all(found[1]), "a text of one letter passes no set"


def test_a_text_without_a_shingle_is_near_its_copies_alone() -> None:
    texts = [PROSE, PROSE + " More.", "too short", "too short", "quite short", "other " * 9]
    truth = runpy.run_path(str(FOLDER / "duplicates.py"))["Truth"](texts, [(0, 1)])
    assert [truth.near(k) for k in range(6)] == [True, True, True, True, False, False]
    assert truth.judge([0, 4]) == (1.0, 0.5)
    assert isinstance(truth.sets[2], np.ndarray) and not len(truth.sets[2])

from __future__ import annotations

import math

import pytest

from bloomery.data.traps import trap
from bloomery.methods.edit.copyright_traps import CopyrightTraps as Planted
from bloomery.methods.task.copyright_traps import CopyrightTraps
from bloomery.seams import Doc, Episode, Rng, Source

RNG = Rng((0, "traps"))


def test_exact_items_are_what_the_edit_plants_and_as_many_others():
    task, edit = CopyrightTraps(traps=4, words=5), Planted(traps=4, words=5, share=1.0, repeats=1)
    items = list(task.items(Source(), RNG))
    assert [item.kind for item in items] == ["member"] * 4 + ["other"] * 4 and len({item.target for item in items}) == 8
    planted = {edit.edit(Doc(str(i), "text."), None, RNG)[0].text.removeprefix("text.").strip() for i in range(60)}
    assert planted == {item.target for item in items if item.kind == "member"}


def test_exact_the_ratio_to_what_the_vocabulary_says():
    task = CopyrightTraps(traps=1, words=5, vocabulary=100)
    item = next(task.items(Source(), RNG))
    known = tuple([-math.log(100)] * 5)
    assert task.grade(item, Episode("e", "i", logp=(*known, -7.0)), None).score == pytest.approx(-1)
    assert task.grade(item, Episode("e", "i", logp=(0.0, 0.0, -7.0)), None).score == 0
    assert task.grade(item, Episode("e", "i", logp=(-1.0, -3.0, -7.0)), None).parts["nats"] == 11


def test_property_remembered_traps_are_called_planted_at_the_stated_rate():
    task, rows = CopyrightTraps(traps=100), []
    for i, item in enumerate(task.items(Source(), RNG)):
        gain = 1.5 if item.kind == "member" else 0.0
        logp = tuple(-7 + gain + math.sin(13 * i + 5 * k) + 2 * math.sin(7 * i) for k in range(25))
        rows.append((item, None, task.grade(item, Episode("e", "i", logp=(*logp, -1.0)), None)))
    found = task.summary(rows, RNG)
    assert found["copyright_traps_auc"] > 0.6 and found["copyright_traps_false_positives"] <= 0.2
    assert found["copyright_traps_true_positives.n"] == 50 and found["copyright_traps_auc@min-k 20%"] > 0.5
    assert trap("traps", 0, 25, 2000) == rows[0][0].target

"""Rows of the score table."""

from __future__ import annotations

import json
import math

import pytest

from bloomery.infer.rivals import Bits
from bloomery.infer.scores import change_rows, rival_rows, row, rows_of
from bloomery.methods.task.bits_per_byte import BitsPerByte
from bloomery.methods.task.cloze import Cloze
from bloomery.methods.task.multiple_choice import MultipleChoice
from bloomery.seams import Episode, Grade, Item, Rng

RNG = Rng((1, "scores"))
TASK = BitsPerByte()
ITEMS = [Item(str(i), "", "score", "x" * (i + 1), group=str(i % 2)) for i in range(4)]
MINE = [(item, Episode("", ""), TASK.grade(item, Episode("", "", logp=(-math.log(2) * 2 * len(item.target),)), None)) for item in ITEMS]


def test_what_is_no_number_is_null() -> None:
    made = row("t", "m", "model", 1.0, float("nan"), float("inf"))
    assert (made["low"], made["high"], made["clean"]) == (None, None, None)
    json.dumps(made, allow_nan=False)


def test_rows_carry_unit_interval_and_clean_twin() -> None:
    (made,) = rows_of("bits", TASK, MINE, {"3"}, RNG, "model", "how")
    assert (made["value"], made["clean"], made["contaminated"], made["n"]) == (pytest.approx(2), pytest.approx(2), 1, 4)
    assert (made["unit"], made["better"], made["note"]) == ("bits/byte", "lower", "how")
    assert rows_of("bits", TASK, MINE, {"0", "1", "2", "3"}, RNG, "model", "")[0]["clean"] is None


def test_a_rival_is_measured_on_the_same_bytes() -> None:
    theirs = Bits("xz -9, each file", [8.0, 8.0, 8.0, 8.0], "note")
    bits, ahead = rival_rows("bits", TASK, MINE, theirs, set(), RNG)
    assert (bits["subject"], bits["value"]) == ("xz -9, each file", pytest.approx(3.2))
    assert (ahead["metric"], ahead["value"], ahead["better"]) == ("advantage_over_xz", pytest.approx(1.2), "higher")
    (together,) = rival_rows("bits", TASK, MINE, Bits("xz -9, all files", 20.0, ""), {"1"}, RNG)
    assert (together["value"], together["low"], together["clean"]) == (2, None, None)


def test_exact_negative_flips_are_what_was_right_and_is_wrong():
    task = Cloze()

    def graded(scores: list[float]) -> list:
        return [(Item(str(i), "", "generate", group=str(i)), None, Grade(score)) for i, score in enumerate(scores)]

    now, before = graded([1, 0, 0, 1]), graded([0, 1, 0, 1])
    change, flips = change_rows("cloze", task, now, before, "before", {"1"}, RNG)
    assert (change["metric"], change["value"]) == ("cloze_exact_change", 0)
    assert (flips["metric"], flips["value"], flips["clean"], flips["better"]) == ("cloze_exact_negative_flips", 0.25, 0, "lower")
    assert flips["low"] < flips["value"] < flips["high"] and flips["n"] == 4 and flips["contaminated"] == 1
    assert change_rows("cloze", task, now, before, "before, plain text", set(), RNG)[1]["metric"].endswith("flips_from_plain_text")
    assert len(change_rows("cloze", task, graded([0.5]), graded([1]), "before", set(), RNG)) == 1, "half right is neither"


def test_a_figure_that_is_no_mean_of_scores_has_no_change_of_the_mean_score():
    class Widest(Cloze):
        compare = None
        metrics = {"widest": ("nats", "lower")}

        def summary(self, rows, rng):
            return {"widest": max(grade.score for _, _, grade in rows)}

    del Widest.compare
    graded = [(Item(str(i), "", "generate", group=str(i)), None, Grade(float(i))) for i in range(4)]
    assert change_rows("widest", Widest(), graded, graded, "before", set(), RNG) == []


def test_flips_of_a_choice_are_those_of_its_questions():
    task = MultipleChoice()

    def graded(right: list[bool]) -> list:
        """Two answers to each question, of which the first is right and the likelier one where `right` says so."""
        rows = []
        for i, ok in enumerate(right):
            for k in range(2):
                item = Item(f"{i}/{k}", "", "score", " a", group=str(i), kind="wrong" if k else "right", question=str(i))
                rows.append((item, None, task.grade(item, Episode("", "", logp=(-1.0 if ok != bool(k) else -2.0, 0.0)), None)))
        return rows

    rows = change_rows("choices", task, graded([True, False, True]), graded([True, True, False]), "before", {"1/0", "1/1"}, RNG)
    found = {one["metric"]: one for one in rows}
    assert found["choice_accuracy_change"]["value"] == 0 and found["choice_accuracy_negative_flips"]["value"] == pytest.approx(1 / 3)
    assert (found["choice_accuracy_negative_flips"]["n"], found["choice_accuracy_negative_flips"]["clean"]) == (3, 0)

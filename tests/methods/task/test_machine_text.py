"""Telling machine text by its likelihoods."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.machine_text import MachineText
from bloomery.num.diversity import spread_over_scales
from bloomery.seams import Episode, Item, Rng, Source

RNG = Rng((0, "machine"))


class Letters:
    def encode(self, text: str) -> list[str]:
        return list(text)

    def decode(self, ids) -> str:
        return "".join(ids)


def items(rows, **knobs) -> list:
    return list(MachineText(**knobs).items(Source(tokenizer=Letters(), questions={"q": rows}), RNG))


def test_exact_the_score_is_likelihood_over_spread():
    logp = tuple(-abs(x) for x in np.random.default_rng(1).normal(size=60))
    grade = MachineText().grade(Item("a", "", "score", "x"), Episode("e", "a", logp=(*logp, -9.0)), None)
    assert grade.parts["likelihood"] == pytest.approx(sum(logp) / 60) and grade.parts["nats"] == pytest.approx(9 - sum(logp))
    assert grade.score == pytest.approx(grade.parts["likelihood"] / spread_over_scales(logp, 3, 600, 5))
    for odd in ((-1.0,) * 60, (-1.0, -2.0), (-1.0,)):
        assert math.isfinite(MachineText().grade(Item("a", "", "score", "x"), Episode("e", "a", logp=odd), None).score)


def test_areas_of_a_perfect_a_blind_and_a_reversed_model():
    """Machine text of high, equal and low likelihood; the sequence is the same but for its level."""
    task, gen = MachineText(), np.random.default_rng(2)
    for step, wanted in ((1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)):
        rows = []
        for i in range(40):
            machine = i % 2 == 0
            level = -3 + (step if machine else 0) + 0.01 * (i // 2 % 5)
            item = Item(str(i), "", "score", "x", group=str(i), kind="machine" if machine else "human")
            logp = tuple(level + 0.0 * gen.normal(size=80))
            rows.append((item, None, task.grade(item, Episode("e", "e", logp=(*logp, -5.0)), None)))
        found = task.summary(rows, RNG)
        assert found["machine_text_auc@mean log-probability"] == pytest.approx(wanted) == found["machine_text_auc"]


def test_texts_are_cut_short_ones_left_out_and_labels_read():
    rows = [{"text": "a" * 500, "label": "human"}, {"text": "b" * 31, "label": "human"}, {"text": "c" * 40, "label": "machine"}]
    assert [(len(item.target), item.kind) for item in items(rows, tokens=100)] == [(100, "human"), (40, "machine")]
    with pytest.raises(BadInput, match="neither machine nor human"):
        items([{"text": "a" * 99, "label": "ai"}])
    with pytest.raises(ValueError, match="tokens at least 32"):
        MachineText(tokens=8)

"""Telling machine text by its likelihoods."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.task.machine_text import MachineText
from bloomery.num.diversity import spread_over_scales
from bloomery.seams import Episode, Grade, Item, Rng, Source

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
    for knobs in ({"tokens": 8}, {"draws": 1}):
        with pytest.raises(ValueError, match="tokens at least 32"):
            MachineText(**knobs)


def test_exact_lastde_plus_plus_is_the_distance_from_what_is_drawn():
    gen = np.random.default_rng(3)
    logp, drawn = -np.abs(gen.normal(size=60)), -np.abs(gen.normal(size=(5, 61)))
    episode = Episode("e", "a", logp=(*logp.tolist(), -9.0), drawn=tuple(map(tuple, drawn.tolist())))
    grade = MachineText().grade(Item("a", "", "score", "x"), episode, None)
    own, *others = (one[:60].mean() / spread_over_scales(one[:60], 4, 480, 15) for one in (logp, *drawn))
    assert grade.parts["plus"] == pytest.approx((own - np.mean(others)) / np.std(others, ddof=1))
    assert [item.draws for item in items([{"text": "a" * 99, "label": "human"}], draws=7)] == [7]


def test_what_the_model_would_write_is_told_apart_from_what_surprises_it():
    """Text drawn from the distribution that the draws are of, against text that is less likely at every place."""
    gen, task, rows = np.random.default_rng(4), MachineText(draws=8), []
    for i in range(16):
        machine = i % 2 == 0
        own, drawn = gen.exponential(1.0, 64) + (0.0 if machine else 1.5), gen.exponential(1.0, (8, 65))
        item = Item(str(i), "", "score", "x", group=str(i), kind="machine" if machine else "human")
        episode = Episode("e", "e", logp=(*(-own).tolist(), -5.0), drawn=tuple(map(tuple, (-drawn).tolist())))
        rows.append((item, None, task.grade(item, episode, None)))
    found = task.summary(rows, RNG)
    assert found["machine_text_auc@Lastde++"] > 0.9
    worse = [(item, None, Grade(-grade.score, grade.parts)) for item, _, grade in rows]
    change = task.compare(rows, worse, RNG)
    assert change["machine_text_auc"] == pytest.approx(2 * found["machine_text_auc"] - 1) and change["machine_text_auc.n"] == 16

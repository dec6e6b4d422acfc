from __future__ import annotations

import math
import zlib

import pytest

from bloomery.methods.task.min_k import MinK
from bloomery.seams import Doc, Episode, Item, Rng, Source

RNG = Rng((0, "min_k"))


class Letters:
    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids) -> str:
        return "".join(map(chr, ids))


def docs(kind: str, count: int, size: int = 30) -> list[Doc]:
    return [Doc(f"{kind}{i}", f"{kind} {i} ".ljust(size, "x"), {"package": f"{kind}{i // 2}"}) for i in range(count)]


def item(kind: str = "member", text: str = "text") -> Item:
    return Item(f"{kind}:1", "", "score", text, group="g", kind=kind)


def test_exact_by_hand():
    logp = (-1.0, -5.0, -0.5, -3.0, -2.0, -99.0)  # the last one is the end of the document
    grade = MinK(k=0.4).grade(item(), Episode("e", "i", logp=logp), None)
    assert grade.score == pytest.approx((-5 - 3) / 2)
    assert grade.parts["loss"] == pytest.approx(-11.5 / 5)
    assert grade.parts["zlib"] == pytest.approx(-11.5 / 5 / len(zlib.compress(b"text")))
    assert grade.parts["nats"] == pytest.approx(110.5)
    assert MinK(k=0.01).grade(item(), Episode("e", "i", logp=logp), None).score == -5  # one token at least
    assert MinK(k=1.0).grade(item(), Episode("e", "i", logp=logp), None).score == pytest.approx(grade.parts["loss"])


def test_exact_the_area_of_four_texts():
    rows = []
    for kind, score in (("member", 3), ("member", 1), ("other", 2), ("other", 0)):
        rows.append((item(kind), None, MinK().grade(item(kind), Episode("e", "i", logp=(score - 9.0, 0.0)), None)))
    assert MinK().summary(rows, RNG)["min_k_auc"] == 0.75


def test_property_a_remembered_text_stands_out_and_chance_does_not():
    def area(gap: float) -> float:
        rows = []
        for i in range(200):
            kind = ("member", "other")[i % 2]
            one = Item(str(i), "", "score", "t", group=str(i), kind=kind)
            logp = [-2 - (gap if kind == "other" and k % 10 == 0 else 0) - math.sin(37 * i + 11 * k) for k in range(40)]
            rows.append((one, None, MinK().grade(one, Episode("e", "i", logp=(*logp, -1.0)), None)))
        found = MinK().summary(rows, RNG)
        assert found["min_k_auc.low"] <= found["min_k_auc"] <= found["min_k_auc.high"]
        return found["min_k_auc"]

    assert area(2.0) > 0.95
    assert 0.35 < area(0.0) < 0.65


def test_property_kinds_are_equal_in_number_and_length():
    source = Source(None, Letters(), docs("out", 9), trained=[*docs("in", 5), *docs("short", 5, 12)])
    found = list(MinK(length=20).items(source, RNG))
    assert [one.kind for one in found].count("member") == [one.kind for one in found].count("other") == 5
    assert {len(one.target) for one in found} == {20} and len({one.id for one in found}) == 10
    assert found == list(MinK(length=20).items(source, RNG))
    assert len(list(MinK(length=20, count=2).items(source, RNG))) == 4
    assert not list(MinK(length=20).items(Source(None, Letters(), docs("out", 9)), RNG))


def test_two_models_are_compared_by_their_areas():
    def graded(scores: tuple) -> list:
        kinds = ("member", "member", "other", "other")
        found = [(item(kind), Episode("e", "i", logp=(score - 99.0, 0.0))) for kind, score in zip(kinds, scores, strict=True)]
        return [(one, None, MinK().grade(one, episode, None)) for one, episode in found]

    assert MinK().compare(graded((3, 2, 1, 0)), graded((30, 10, 20, 0)), RNG)["min_k_auc"] == 0.25, "and not by how far scores lie apart"

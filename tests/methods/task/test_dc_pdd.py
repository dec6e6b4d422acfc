from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from bloomery.methods.task.dc_pdd import AGAIN, DcPdd
from bloomery.seams import Doc, Episode, Item, Rng, Source

RNG = Rng((0, "dc_pdd"))
NET = SimpleNamespace(cfg=SimpleNamespace(vocab=128))


class Letters:
    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids) -> str:
        return "".join(map(chr, ids))


def docs(kind: str, count: int) -> list[Doc]:
    return [Doc(f"{kind}{i}", "abcab" if kind == "in" else "abacc", {"package": f"{kind}{i}"}) for i in range(count)]


def test_exact_rarity_and_score_by_hand():
    source = Source(NET, Letters(), docs("out", 8), trained=docs("in", 4))
    items = list(DcPdd(length=5).items(source, RNG))
    assert [item.kind for item in items] == ["member"] * 4 + ["other"] * 4
    one = items[0]
    total = 4 * 5 + 128  # four reference documents of five tokens, and one more of each token of the vocabulary
    expected = [math.log(total / (2 * 4 + 1)), math.log(total / (1 * 4 + 1)), math.log(total / (2 * 4 + 1)), AGAIN, AGAIN]
    assert one.target == "abcab" and one.numbers == pytest.approx(expected)
    logp = (-9.0, -1.0, -2.0, -0.1, -0.1, -50.0)  # the last one is the end of the document
    grade = DcPdd(length=5, cap=0.5).grade(one, Episode("e", "i", logp=logp), None)
    products = [math.exp(-9) * expected[0], math.exp(-1) * expected[1], math.exp(-2) * expected[2]]
    assert products[1] > 0.5 > products[2]
    assert grade.score == pytest.approx((products[0] + 0.5 + products[2]) / 3)
    assert grade.parts["loss"] == pytest.approx(-12.2 / 5) and grade.parts["min_k"] == -9 and grade.parts["nats"] == pytest.approx(62.2)


def test_exact_reference_and_asked_documents_are_apart():
    source = Source(NET, Letters(), docs("out", 9), trained=docs("in", 9))
    asked = {item.id for item in DcPdd(length=5, reference=0.34).items(source, RNG) if item.kind == "other"}
    assert len(asked) == 6, "three of nine are the reference"
    assert list(DcPdd(length=5).items(source, RNG)) == list(DcPdd(length=5).items(source, RNG))
    assert not list(DcPdd(length=5).items(Source(NET, Letters(), docs("out", 9)), RNG))


def test_property_rare_words_that_a_model_expects_tell_members():
    rows = []
    for i in range(120):
        kind = ("member", "other")[i % 2]
        item = Item(str(i), "", "score", "t", group=str(i), kind=kind, numbers=(8.0, 0.05, 8.0, 0.05))
        rare = -5.0 + (0.8 if kind == "member" else 0.0) + math.sin(17 * i)
        common = -1.0 - 2.0 * (kind == "member") + math.sin(31 * i)  # common words are what misleads the plain loss
        rows.append((item, None, DcPdd(cap=1.0).grade(item, Episode("e", "i", logp=(rare, common, rare, common, -1.0)), None)))
    found = DcPdd().summary(rows, RNG)
    assert found["dc_pdd_auc"] > found["dc_pdd_auc@mean log-probability"]
    assert {"dc_pdd_true_positives", "dc_pdd_false_positives.high", "dc_pdd_auc@min-k 20%"} <= found.keys()

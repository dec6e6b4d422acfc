"""One document becomes two tasks with one question, each trained where it is said and nowhere else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from bloomery.methods.view.causal import Causal
from bloomery.methods.view.rationale import Rationale
from bloomery.seams import Clock, Doc, Rng, Vocab

VOCAB, CLOCK, RNG = Vocab(100, 0, 1, 2, (90, 91)), Clock(0, 0, 1, None), Rng((0,))


def test_the_two_tasks_by_hand():
    ids = [1, 10, 11, 20, 21, 22, 12, 30, 2]  # begin, question, rationale, "so?", answer and end
    answer, why = Rationale().view(ids, Doc("d", "", spans=[(3, 6, 1.0), (7, 9, 1.0)]), VOCAB, CLOCK, RNG)
    assert [*answer["inputs"], answer["targets"][-1]] == [1, 10, 11, 30, 2]
    assert answer["weights"].tolist() == [0, 0, 1, 1] and answer["positions"].tolist() == [0, 1, 2, 3]
    assert [*why["inputs"], why["targets"][-1]] == [90, 1, 10, 11, 20, 21, 22]
    assert why["weights"].tolist() == [0, 0, 0, 0.5, 0.5, 0.5][:6]


@given(some.integers(2, 40), some.integers(1, 39))
def test_with_one_range_it_is_the_ordinary_view(n, start):
    ids, start = list(range(n)), min(start, n - 1)
    doc = Doc("d", "", spans=[(start, n, 1.0)])
    (ours,), (plain,) = (view.view(ids, doc, VOCAB, CLOCK, RNG) for view in (Rationale(), Causal()))
    assert all(ours[name].tolist() == plain[name].tolist() for name in plain)


@given(some.integers(4, 60), some.data())
def test_every_trained_token_is_trained_once_and_rows_have_room(n, data):
    a, b, c = sorted(data.draw(some.lists(some.integers(1, n - 1), min_size=3, max_size=3, unique=True)))
    ids, spans = list(range(100, 100 + n)), [(a, b, 1.0), (c, n, 1.0)]
    made = Rationale().view(ids, Doc("d", "", spans=spans), VOCAB, CLOCK, RNG)
    said = [(t, w) for one in made for t, w in zip(one["targets"], one["weights"], strict=True) if w]
    assert sorted(t for t, _ in said) == sorted([*range(100 + a, 100 + b), *range(100 + c, 100 + n)])
    assert {w for t, w in said if t < 100 + c} == {0.5} and {w for t, w in said if t >= 100 + c} == {1.0}
    row = 2 * (n - 1) + 1
    assert Rationale().room(row) == n - 1 and sum(len(one["inputs"]) for one in made) <= row

from __future__ import annotations

from bloomery.methods.rollout.single import Single
from bloomery.seams import Episode, Item, Rng

ITEMS = [Item(name, "", "generate") for name in "abc"]


class Counting:
    def __init__(self) -> None:
        self.asked: list = []

    def sample(self, items, n, rng):
        self.asked.append(([item.id for item in items], n, rng))
        return [[Episode(f"{item.id}#{k}", item.id) for k in range(n)] for item in items]


def test_exact_one_episode_an_item_with_the_key_as_it_was_given():
    engine = Counting()
    assert [episode.id for episode in Single().rollout(engine, ITEMS, None, Rng((3,)))] == ["a#0", "b#0", "c#0"]
    assert engine.asked == [(["a", "b", "c"], 1, Rng((3,)))]


def test_property_no_items_no_answers():
    assert Single().rollout(Counting(), [], None, Rng((0,))) == []

"""A made-up language."""

from __future__ import annotations

from collections import Counter

from bloomery.core.rng import python_rng
from bloomery.data.worlds.language import WORDS, language
from bloomery.seams import Rng


def test_words_are_distinct_and_few_are_frequent() -> None:
    made = language(0)
    everything = [word.lower() for words in made.words.values() for word in words]
    assert len(everything) == sum(WORDS.values()) == len(set(everything))
    nouns = Counter(made.word(python_rng(Rng((0, i))), 0, "noun") for i in range(3000))
    counts = sorted(nouns.values(), reverse=True)
    assert counts[0] > 5 * counts[len(counts) // 2] and len(counts) > 60


def test_topics_prefer_other_words_and_seeds_have_other_words() -> None:
    made = language(0)
    common = [Counter(made.word(python_rng(Rng((1, i))), topic, "noun") for i in range(400)).most_common(3) for topic in (0, 4)]
    assert not {word for word, _ in common[0]} & {word for word, _ in common[1]}
    assert len(set(made.words["noun"]) & set(language(1).words["noun"])) < 20
    assert language(0).text(python_rng(Rng((2,))), 3) == language(0).text(python_rng(Rng((2,))), 3)

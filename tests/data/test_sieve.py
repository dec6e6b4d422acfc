"""What a sieve lets through, and that it loses nothing."""

import random

import numpy as np
import pytest

from bloomery.data.crossing import nearest
from bloomery.data.sieve import Sieve


def texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(4000)}" for _ in range(draw.randrange(0, 120))) for _ in range(count)]


@pytest.mark.parametrize("room", [0, 4096, 1 << 20])
def test_nothing_that_reaches_the_threshold_is_lost(room):
    held, others = texts(1, 200), texts(2, 300)
    for k in range(0, 200, 10):
        words = held[k].split()
        others[k] = " ".join([*words[: len(words) * 3 // 4], f"v{k}"])
    sieve = Sieve(sum(map(len, held)), room)
    for start in range(0, 200, 64):
        sieve.put(held[start : start + 64])
    let = sieve.may_reach(others, 0.5)
    best, where = nearest(held, [others], 0.5)
    assert let[where[best >= 0.5]].all() and (best >= 0.5).sum() > 10
    if room == 1 << 20:
        assert let.sum() < 30, "unlike texts share no runs of words, and few bits by chance"


def test_a_share_exactly_at_the_threshold_is_let_through():
    """0.55 * 20 is a little above 11."""
    words = [f"w{k}" for k in range(24)]
    sieve = Sieve(10_000, 10_000)
    sieve.put([" ".join(words[:15])])
    assert sieve.may_reach([" ".join(words)], 0.55).tolist() == [True]


def test_texts_too_short_for_a_run_are_not_let_through():
    sieve = Sieve(1000, 1000)
    sieve.put(["one two three four five six"])
    assert sieve.may_reach(["one two three four five six", "one two", ""], 0.5).tolist() == [True, False, False]
    assert np.array_equal(Sieve(0, 0).may_reach(["one two three four five six"], 0.5), [False])

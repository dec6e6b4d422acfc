"""Copyright traps: sentences of coined words that stand nowhere else, always the same under one key.

Words are drawn evenly from a vocabulary whose size is known, so that the perplexity of a trap is that size for whoever knows no more,
and no reference model is needed to say how likely a trap is by itself.
"""

from __future__ import annotations

import math
from functools import lru_cache

from bloomery.core.rng import python_rng
from bloomery.data.worlds.language import SOUNDS
from bloomery.seams import Rng

LARGEST = 20_000  # words that there are


def trap(key: str, number: int, words: int, vocabulary: int) -> str:
    """Trap `number` of a key: a sentence of so many words from so many different ones."""
    draw, known = python_rng(Rng(("trap", key, number))), _coined(key)[:vocabulary]
    return " ".join(draw.choice(known) for _ in range(words)).capitalize() + "."


def expected_nats(words: int, vocabulary: int) -> float:
    """Nats of a trap for whoever knows the vocabulary alone."""
    return words * math.log(vocabulary)


def demand(traps: int, words: int, vocabulary: int) -> None:
    """ValueError for figures out of range."""
    if min(traps, words) < 1 or not 2 <= vocabulary <= LARGEST:
        raise ValueError(f"traps and words must be at least 1, vocabulary from 2 to {LARGEST}")


@lru_cache(maxsize=4)
def _coined(key: str) -> tuple[str, ...]:
    """Words of two to four syllables, all different, in an order of their own for each key."""
    draw, (onsets, vowels, codas) = python_rng(Rng(("trap words", key))), SOUNDS["low"]
    found: dict[str, None] = {}
    while len(found) < LARGEST:
        found["".join(draw.choice(onsets) + draw.choice(vowels) + draw.choice(codas) for _ in range(draw.randint(2, 4)))] = None
    return tuple(found)

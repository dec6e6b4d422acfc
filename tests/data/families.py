"""Texts of which some are near copies of each other."""

from __future__ import annotations

import random


def variants(seed: int, count: int, families: int = 8) -> list[str]:
    """Texts in families: members differ from their ancestor by a few changed words."""
    draw = random.Random(seed)
    ancestors = [[f"w{draw.randrange(500)}" for _ in range(draw.randrange(60, 200))] for _ in range(families)]
    texts = []
    for _ in range(count):
        words = list(draw.choice(ancestors))
        for _ in range(draw.choice([0, 1, 2, 4, 8, 20])):
            words[draw.randrange(len(words))] = f"w{draw.randrange(500)}"
        texts.append(" ".join(words) + " end" * draw.randrange(3))
    return texts

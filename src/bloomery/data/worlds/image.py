"""World `image`: small pictures in a few grey levels, written row by row, each pixel drawn given the one left and the one above."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.data.worlds.chain import PARTS
from bloomery.seams import Doc, Rng

DOMAINS = ("smooth", "grain")
LEVELS = ".:+#"


@dataclass(frozen=True)
class World:
    """Pictures of `side` rows of `side` pixels, each row ended by a line feed. A pixel is that on its left or that above, or with
    some chance any of the four levels; in the domain grain that chance is higher."""

    documents: int = 4000
    seed: int = 0
    group: int = 4  # documents of a package
    side: int = 11  # pixels of a row, and rows
    smooth: float = 0.1  # chance of any level in the domain smooth
    grain: float = 0.3  # and in the domain grain

    def __post_init__(self) -> None:
        if min(self.documents, self.group) < 1 or self.side < 2 or not 0 < self.smooth <= 1 or not 0 < self.grain <= 1:
            raise ValueError("documents and group must be at least 1, side at least 2, smooth and grain above 0 and at most 1")

    def pixels(self, i: int) -> list[list[int]]:
        """The levels of document `i`, row by row."""
        table = rules(getattr(self, self.domain(i)))
        parts = numpy_rng(Rng((self.seed, "image", i))).integers(0, PARTS, (self.side, self.side)).tolist()
        rows: list[list[int]] = []
        for y in range(self.side):
            row: list[int] = []
            for x in range(self.side):
                row.append(table[row[-1] if x else -1, rows[-1][x] if y else -1][parts[y][x]])
            rows.append(row)
        return rows

    def domain(self, i: int) -> str:
        """The kind of document `i`."""
        return DOMAINS[i // self.group % 2]

    def document(self, i: int) -> Doc:
        """Document `i`."""
        text = "".join("".join(LEVELS[level] for level in row) + "\n" for row in self.pixels(i))
        return Doc(str(i), text, {"domain": self.domain(i), "package": f"{self.domain(i)}{i // self.group}"})

    def optimal_bits(self, domain: str = "") -> float:
        """Bits per byte that the best model needs: what each pixel has left given its neighbours, averaged over 2000 pictures of a kind,
        which leaves an error of about two thousandths."""
        bits = dict.fromkeys(DOMAINS, 0.0)
        many = -(-2000 // self.group) * self.group
        for i in range(2 * many):
            name, rows = self.domain(i), self.pixels(i)
            left = entropies(getattr(self, name))
            bits[name] += sum(
                left[row[x - 1] if x else -1, rows[y - 1][x] if y else -1] for y, row in enumerate(rows) for x in range(self.side)
            )
        size = self.side * (self.side + 1)
        return bits[domain] / many / size if domain else (sum(bits.values()) / many / 2 + 1) / size


@lru_cache(maxsize=8)
def rules(chance: float) -> dict[tuple[int, int], list[int]]:
    """For (left, above), -1 where there is none: which level each of PARTS equally likely numbers becomes."""
    found = {}
    for left in range(-1, len(LEVELS)):
        for above in range(-1, len(LEVELS)):
            like = np.full(len(LEVELS), 1 / len(LEVELS))
            known = [level for level in (left, above) if level >= 0]
            if known:
                like = chance * like + (1 - chance) * np.bincount(known, minlength=len(LEVELS)) / len(known)
            cut = np.rint(np.cumsum(like) * PARTS).astype(np.int64)
            cut[-1] = PARTS
            found[left, above] = np.repeat(np.arange(len(LEVELS)), np.diff(cut, prepend=0)).tolist()
    return found


@lru_cache(maxsize=8)
def entropies(chance: float) -> dict[tuple[int, int], float]:
    """Bits of a pixel given (left, above)."""
    found = {}
    for near, levels in rules(chance).items():
        shares = [levels.count(level) / PARTS for level in set(levels)]
        found[near] = -sum(share * math.log2(share) for share in shares)
    return found

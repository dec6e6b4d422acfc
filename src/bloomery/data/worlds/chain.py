"""A Markov chain over a few symbols whose probabilities are known exactly, so that the entropy of its text is too."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.seams import Rng

PARTS = 256  # every probability is a multiple of 1 / PARTS


class Chain:
    """Text in which a symbol depends on the `order` symbols before it; the first `order` symbols are uniform.

    `counts` (symbols ** order, symbols): the probability of a symbol in parts of `PARTS`; a state is the number whose digits are the
    symbols before, the oldest first.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = np.asarray(counts, np.int64)
        states, self.symbols = self.counts.shape
        self.order = next(k for k in range(states + 1) if self.symbols**k == states)
        if (self.counts < 0).any() or (self.counts.sum(1) != PARTS).any():
            raise ValueError(f"the counts of every state must be at least 0 and sum to {PARTS}")

    @classmethod
    def drawn(cls, symbols: int, order: int, spread: float, rng: Rng) -> Chain:
        """Each state's probabilities drawn from a Dirichlet distribution of concentration `spread` and rounded."""
        shares = numpy_rng(rng).dirichlet(np.full(symbols, spread), symbols**order)
        edges = np.rint(np.cumsum(shares, 1) * PARTS).astype(np.int64)
        edges[:, -1] = PARTS
        return cls(np.diff(edges, axis=1, prepend=0))

    @cached_property
    def _table(self) -> list[list[int]]:
        return [np.repeat(np.arange(self.symbols), row).tolist() for row in self.counts]

    def draw(self, length: int, rng: Rng) -> list[int]:
        """`length` symbols."""
        draw = numpy_rng(rng)
        made = draw.integers(0, self.symbols, min(self.order, length)).tolist()
        state = 0
        for symbol in made:
            state = state * self.symbols + symbol
        states = self.symbols**self.order
        for part in draw.integers(0, PARTS, length - len(made)).tolist():
            symbol = self._table[state][part]
            made.append(symbol)
            state = (state * self.symbols + symbol) % states
        return made

    def bits(self, length: int) -> float:
        """Entropy of `length` symbols in bits, exact: the distribution over states is carried from symbol to symbol."""
        shares = self.counts / PARTS
        each = -(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))).sum(1)
        states = len(shares)
        after = (np.arange(states)[:, None] * self.symbols + np.arange(self.symbols)) % states
        held, total = np.full(states, 1 / states), min(self.order, length) * float(np.log2(self.symbols))
        for _ in range(length - min(self.order, length)):
            total += float(held @ each)
            held = np.bincount(after.ravel(), (held[:, None] * shares).ravel(), states)
        return total

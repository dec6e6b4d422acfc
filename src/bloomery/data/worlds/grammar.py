"""World `grammar`: a planted Markov chain, copying, recall and addition, of which the best possible loss is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from bloomery.core.rng import python_rng
from bloomery.data.worlds.chain import Chain
from bloomery.seams import Doc, Rng

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DOMAINS = ("ngram", "copy", "recall", "sums")
SHORT, LONG = 3, 8  # symbols of a copied word
PAIRS = 4  # keys of a line of recall
DIGITS = (1, 2, 3)  # of the numbers that are added


@dataclass(frozen=True)
class World:
    """Documents of one kind each; a package is `group` documents of a kind.

    ngram: a text of a Markov chain. copy: lines `word|word`. recall: lines of keys with digits, then one of the keys again and its
    digit. sums: lines `12+34=46`.
    """

    documents: int = 4000
    seed: int = 0
    group: int = 4  # documents of a package
    length: int = 96  # symbols of an ngram document
    lines: int = 8  # lines of the other documents
    symbols: int = 16  # letters in use
    order: int = 2  # symbols that the next one depends on
    spread: float = 0.15  # Dirichlet concentration of the chain: less is more predictable

    def __post_init__(self) -> None:
        if min(self.documents, self.group, self.lines, self.order) < 1 or self.length < self.order or not 4 <= self.symbols <= 26:
            raise ValueError("documents, group, lines and order must be at least 1, length at least order and symbols from 4 to 26")

    def document(self, i: int) -> Doc:
        """Document `i`."""
        domain = DOMAINS[i // self.group % len(DOMAINS)]
        rng = Rng((self.seed, "grammar", i))
        if domain == "ngram":
            text = "".join(LETTERS[symbol] for symbol in self.chain.draw(self.length, rng))
        else:
            draw = python_rng(rng)
            text = "".join(getattr(self, f"_{domain}")(draw) for _ in range(self.lines))
        return Doc(str(i), text, {"domain": domain, "package": f"{domain}{i // self.group}"})

    @property
    def chain(self) -> Chain:
        """What the ngram documents are drawn from."""
        return _chain(self.symbols, self.order, self.spread, self.seed)

    def _copy(self, draw) -> str:
        word = "".join(draw.choices(LETTERS[: self.symbols], k=draw.randint(SHORT, LONG)))
        return f"{word}|{word}\n"

    def _recall(self, draw) -> str:
        keys = draw.sample(LETTERS[: self.symbols], PAIRS)
        values = [draw.randrange(10) for _ in keys]
        asked = draw.randrange(PAIRS)
        return "".join(f"{key}{value}" for key, value in zip(keys, values, strict=True)) + f"?{keys[asked]}{values[asked]}\n"

    def _sums(self, draw) -> str:
        digits = draw.choice(DIGITS)
        a, b = (draw.randrange(*span(digits)) for _ in range(2))
        return f"{a}+{b}={a + b}\n"

    def totals(self) -> dict[str, tuple[float, float]]:
        """(bits, bytes) of a document of each kind on average, under the generator."""
        letter = math.log2(self.symbols)
        sizes = [span(digits) for digits in DIGITS]
        counts = [stop - start for start, stop in sizes]
        sums = [2 * digits + 3 + digits + carried(*size) for digits, size in zip(DIGITS, sizes, strict=True)]
        mean = (SHORT + LONG) / 2
        line = {
            "copy": (math.log2(LONG - SHORT + 1) + mean * letter, 2 * mean + 2),
            "recall": (math.log2(math.perm(self.symbols, PAIRS)) + PAIRS * math.log2(10) + math.log2(PAIRS), 2 * PAIRS + 4),
            "sums": (math.log2(len(DIGITS)) + sum(2 * math.log2(n) for n in counts) / len(DIGITS), sum(sums) / len(DIGITS)),
        }
        found = {name: (self.lines * bits, self.lines * size) for name, (bits, size) in line.items()}
        return {"ngram": (self.chain.bits(self.length), float(self.length)), **found}

    def optimal_bits(self, domain: str = "") -> float:
        """Bits per byte that the best model needs, of one kind of document or of all; then also which of them a document is."""
        totals = self.totals()
        if domain:
            return totals[domain][0] / totals[domain][1]
        return (sum(bits for bits, _ in totals.values()) + len(totals) * math.log2(len(totals))) / sum(size for _, size in totals.values())


@lru_cache(maxsize=8)
def _chain(symbols: int, order: int, spread: float, seed: int) -> Chain:
    return Chain.drawn(symbols, order, spread, Rng((seed, "grammar", "chain")))


def span(digits: int) -> tuple[int, int]:
    """The numbers of so many digits, as a range."""
    return (0 if digits == 1 else 10 ** (digits - 1)), 10**digits


def carried(start: int, stop: int) -> float:
    """Share of the pairs of numbers of a range whose sum has one digit more than they: `stop` or more."""
    return sum(stop - max(start, stop - a) for a in range(start, stop)) / (stop - start) ** 2

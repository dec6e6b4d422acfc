"""The best loss of `grammar`, against an oracle that scores real documents symbol by symbol."""

from __future__ import annotations

import math
import re

import pytest

from bloomery.data.worlds import opening
from bloomery.data.worlds.chain import PARTS
from bloomery.data.worlds.grammar import DIGITS, DOMAINS, LETTERS, LONG, SHORT, World, carried, span

WORLD = World(documents=4000, seed=3)


def surprise(domain: str, text: str) -> float:
    """Bits of a document under the process that made it, told from its text alone."""
    letter = math.log2(WORLD.symbols)
    if domain == "ngram":
        places = [LETTERS.index(one) for one in text]
        bits = 2 * letter
        for a, b, c in zip(places, places[1:], places[2:], strict=False):
            bits -= math.log2(WORLD.chain.counts[a * WORLD.symbols + b, c] / PARTS)
        return bits
    bits = 0.0
    for line in text.splitlines():
        if domain == "copy":
            word, again = line.split("|")
            assert word == again
            bits += math.log2(LONG - SHORT + 1) + len(word) * letter
        elif domain == "recall":
            pairs, key, value = re.fullmatch(r"((?:\w\d)+)\?(\w)(\d)", line).groups()
            assert dict(re.findall(r"(\w)(\d)", pairs))[key] == value
            for k in range(4):  # a fresh letter, a digit
                bits += math.log2(WORLD.symbols - k) + math.log2(10)
            bits += math.log2(4)
        else:
            a, b, c = map(int, re.fullmatch(r"(\d+)\+(\d+)=(\d+)", line).groups())
            assert a + b == c
            bits += math.log2(len(DIGITS)) + 2 * math.log2(span(len(str(a)))[1] - span(len(str(a)))[0])
    return bits


@pytest.mark.parametrize("domain", ["", *DOMAINS])
def test_optimal_bits_are_what_an_oracle_needs(domain: str) -> None:
    docs = [doc for doc in map(WORLD.document, range(WORLD.documents)) if domain in ("", doc.meta["domain"])]
    bits = sum(surprise(doc.meta["domain"], doc.text) + (0 if domain else 2) for doc in docs)
    found = bits / sum(len(doc.text) for doc in docs)
    assert opening.optimal_bits("grammar", {"seed": 3}, domain) == pytest.approx(found, rel=0.006)


def test_the_share_of_sums_that_carry_is_exact() -> None:
    for start, stop in ((0, 10), (10, 100), (2, 9)):
        pairs = [(a, b) for a in range(start, stop) for b in range(start, stop)]
        assert carried(start, stop) == pytest.approx(sum(a + b >= stop for a, b in pairs) / len(pairs))


def test_a_wider_chain_is_less_predictable() -> None:
    bits = [opening.optimal_bits("grammar", {"spread": spread}, "ngram") for spread in (0.05, 0.15, 1.0)]
    assert bits == sorted(bits) and bits[-1] < 4

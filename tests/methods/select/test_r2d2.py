from __future__ import annotations

import csv
import random
from collections import Counter
from functools import partial

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.select import r2d2 as module
from bloomery.methods.select.r2d2 import R2d2, funnel, read
from bloomery.seams import Rng

BIG = "id,name,price\n1,a,3\n2,b,5\n3,c,5\n3,c,5\n"


def weigh(*texts: str) -> list[float]:
    return R2d2().weigh({"id": list(map(str, range(len(texts)))), "text": list(texts)}, 0, Rng((0,))).tolist()


def test_exact():
    part, other_order, not_in, twice = "name,price\nb,5\na,3\n", "price,id\n5,3\n", "id,name\n4,a\n", "id,name\n1,a\n1,a\n"
    assert weigh(part, BIG, other_order, not_in, twice, BIG, "no table", "", "a,b\n1\n") == [0, 1, 0, 1, 1, 0, 1, 1, 1]
    assert weigh("a,b\n", BIG.replace("5", "9")) == [1, 1]
    with pytest.raises(ValueError, match="delimiter"):
        R2d2(delimiter="")


def test_property_planted_subsets_are_found_with_few_comparisons_of_rows():
    draw = random.Random(0)
    texts, truth = [], []
    for k in range(20):
        rows = [[f"{k}x{r}", str(draw.randrange(100)), str(draw.randrange(100))] for r in range(40)]
        texts.append("\n".join([f"key,left{k % 4},right", *map(",".join, rows)]))
        truth.append(1.0)
        for planted in (True, False):
            some = [list(row) for row in draw.sample(rows, 10)]
            if not planted:
                some[3][2] = str((int(some[3][2]) + 1) % 100)  # a near miss
            texts.append("\n".join([f"key,left{k % 4},right", *map(",".join, some)]))
            truth.append(0.0 if planted else 1.0)
    assert weigh(*texts) == truth
    tables = [read(text, ",", 2) for text in texts]
    schema, ranged, contained = funnel(tables)
    brute = {
        (a, b)
        for a, one in enumerate(tables)
        for b, other in enumerate(tables)
        if a != b and one[0] == other[0] and set(one[1]) <= set(other[1])
    }
    assert set(contained) == brute and len(ranged) < len(schema) / 4


def test_property_every_dropped_table_can_be_made_again():
    weights = np.array(weigh(*["a,b\n1,2\n"] * 4))
    assert weights.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("held", [0, 5, 1 << 18])
def test_property_few_rows_in_memory_and_long_cells_change_nothing(held, monkeypatch):
    """Cells that are alike in what ranges look at, and pairs that are compared again and again."""
    monkeypatch.setattr(module, "HELD", held)
    draw, cells = random.Random(held), ["", "1", "é", "x" * 15 + "é1", "x" * 15 + "é2", "x" * 16 + "\x01"]
    for _ in range(60):
        tables = []
        for _ in range(draw.randrange(2, 12)):
            names = draw.sample("abcd", draw.randrange(2, 5))
            tables.append((tuple(names), [tuple(draw.choice(cells) for _ in names) for _ in range(draw.randrange(1, 5))]))
        texts = ["\n".join([",".join(names), *map(",".join, rows)]) for names, rows in tables]
        tables = [read(text, ",", 2) for text in texts]
        inner = {
            a for a, one in enumerate(tables) for b, other in enumerate(tables) if one and other and a != b and within(a, one, b, other)
        }
        assert weigh(*texts) == [0.0 if k in inner else 1.0 for k in range(len(texts))]
        assert {a for a, _ in funnel(tables)[-1]} == inner


def within(a, one, b, other) -> bool:
    """Whether all rows of a table stand in another one as often, and it is the later one if they are the same."""
    if not set(one[0]) <= set(other[0]):
        return False
    mine, theirs = (Counter(tuple(row[table[0].index(name)] for name in one[0]) for row in table[1]) for table in (one, other))
    return mine <= theirs and (mine != theirs or len(one[0]) < len(other[0]) or a > b)


@pytest.mark.parametrize("limit", [1 << 17, 1 << 40])
def test_what_is_no_table_is_kept_whatever_it_holds(limit, request):
    request.addfinalizer(partial(csv.field_size_limit, csv.field_size_limit(limit)))  # one for the process, which other code may set
    huge = 'a,b\n"' + "x" * 200_000 + '",1\n'
    assert weigh(huge, "a,b\r1,2\r3,\x0b\n", 'a,"b\n', BIG, BIG[:-6]) == [1, 1, 1, 1, 0]
    assert read(huge, ",", 2) is None
    with pytest.raises(BadInput, match="r2d2 reads the texts"):
        R2d2().weigh({"id": ["a"]}, 0, Rng((0,)))

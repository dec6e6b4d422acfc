"""Graphs and ways."""

from __future__ import annotations

import itertools

import networkx
import pytest

from bloomery.core.rng import python_rng
from bloomery.data.graphs import KINDS, joined, named, shortest, walked, without
from bloomery.seams import Rng


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", range(4, 17))
def test_exact_shortest_ways_are_those_of_networkx(kind, size):
    names = named(size, python_rng(Rng((size,))))
    graph, edges = joined(names, KINDS[kind](size)), KINDS[kind](size)
    reference = networkx.Graph((names[a], names[b]) for a, b in edges)
    assert len(set(names)) == size and set(graph) == set(reference) and networkx.is_connected(reference)
    for a, b in itertools.combinations(names, 2):
        way = shortest(graph, a, b)
        assert len(way) == networkx.shortest_path_length(reference, a, b) + 1 and way[0] == a and way[-1] == b
        assert all(there in graph[here] for here, there in itertools.pairwise(way))


def test_a_closed_passage_is_closed_both_ways():
    graph = joined(["a", "b", "c"], {(0, 1), (1, 2)})
    assert without(graph, "b", "a") == {"a": (), "b": ("c",), "c": ("b",)} and shortest(without(graph, "a", "b"), "a", "c") is None
    assert walked("From A to b, then (c); not cb.", graph) == ["a", "b", "c"]

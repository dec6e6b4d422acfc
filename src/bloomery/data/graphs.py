"""Small graphs of named places, as questions about ways through them are asked and answers walked.

A graph is a dict from each place to the places that it leads to, both ways. Kinds after Momennejad et al. 2023, arXiv 2309.15129.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence

Graph = dict[str, tuple[str, ...]]
SYLLABLES = ("ba", "do", "fi", "ga", "hu", "ki", "lo", "me", "nu", "po", "ra", "so", "ti", "vu", "we", "zo")


def joined(names: Sequence[str], edges: Collection[tuple[int, int]]) -> Graph:
    """The graph of edges between numbered names, in the order of the names."""
    near: dict[int, set[int]] = {i: set() for i in range(len(names))}
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)
    return {names[i]: tuple(names[j] for j in sorted(ends)) for i, ends in near.items()}


def line(size: int) -> set[tuple[int, int]]:
    return {(i, i + 1) for i in range(size - 1)}


def tree(size: int) -> set[tuple[int, int]]:
    """Each place leads to two more, from the first on."""
    return {((i - 1) // 2, i) for i in range(1, size)}


def ring(size: int) -> set[tuple[int, int]]:
    return line(size) | {(0, size - 1)}


def rooms(size: int) -> set[tuple[int, int]]:
    """Rooms of four places that all lead to each other, in a ring; a last room may have fewer."""
    inside = {(i, j) for i in range(size) for j in range(i + 1, size) if i // 4 == j // 4}
    starts = range(0, size, 4)
    doors = {(min(i + 3, size - 1), (i + 4) % size if i + 4 < size else 0) for i in starts if size > 4}
    return inside | {(min(one), max(one)) for one in doors if one[0] != one[1]}


KINDS = {"line": line, "tree": tree, "ring": ring, "rooms": rooms}


def named(count: int, draw: random.Random) -> list[str]:
    """`count` words of two syllables that stand in no other word of them."""
    both = [a + b for a in SYLLABLES for b in SYLLABLES if a != b]
    return [f"{one}n" for one in draw.sample(both, count)]


def without(graph: Graph, a: str, b: str) -> Graph:
    """The graph where two places do not lead to each other."""
    return {here: tuple(one for one in ends if {here, one} != {a, b}) for here, ends in graph.items()}


def shortest(graph: Mapping[str, Sequence[str]], start: str, goal: str) -> list[str] | None:
    """A shortest way, ends included; None where there is none."""
    came: dict[str, str | None] = {start: None}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        if here == goal:
            way = [here]
            while (back := came[way[-1]]) is not None:
                way.append(back)
            return way[::-1]
        for there in graph[here]:
            if there not in came:
                came[there] = here
                waiting.append(there)
    return None


def walked(text: str, graph: Mapping[str, Sequence[str]]) -> list[str]:
    """The places that a text names, in its order."""
    known = {name.casefold(): name for name in graph}
    return [known[word] for word in re.findall(r"\w+", text.casefold()) if word in known]

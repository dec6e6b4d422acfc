"""Task `planning_graphs`: ways between places of a graph that the prompt describes, with controls."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.graphs import KINDS, Graph, joined, named, shortest, walked, without
from bloomery.num.statistics import ratio, share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

EXAMPLE = "Places: talin, morun, kesan.\nFrom talin: morun.\nFrom morun: talin, kesan.\nFrom kesan: morun.\n"
ASKED = "Question: Which way leads from {start} to {goal}? Name every place in order.\nAnswer:"
SHARES = {"plan_reached": "score", "plan_shortest": "shortest", "plan_looped": "looped"}


@dataclass(frozen=True)
class PlanningGraphs:
    """Share of ways that a model plans through generated graphs without a step that is not there, and what goes wrong in the others.

    P415 Momennejad et al. 2023, arXiv 2309.15129 (CogEval)
    Differs: ways alone are asked for, not rewards; graphs are lines, trees, rings and rooms of up to 16 places under made-up names; each
        graph is asked as it is, under other names and in another order (a control), and, where there is a way around, with the first
        passage of the shortest way closed (a detour). An answer is the first line of a reply: the places that it names, in order.
    Costs: three completions at most for each graph.
    """

    count: int = 16  # graphs, in turn of each kind
    kinds: tuple[str, ...] = ("line", "tree", "ring", "rooms")  # of graphs
    places: int = 9  # in a graph
    limit: int = 96  # tokens of an answer at most
    subject = "model"
    metrics = {
        "plan_reached": ("share", "higher"),
        "plan_shortest": ("share", "higher"),
        "plan_looped": ("share", "lower"),
        "plan_invalid_steps": ("share", "lower"),
        "plan_reached_control": ("share", "higher"),
        "plan_reached_detour": ("share", "higher"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.kinds) - set(KINDS)) or (not self.kinds and ["none"]):
            raise ValueError(f"kinds must be among {', '.join(KINDS)}, got {unknown[0]}")
        if min(self.count, self.limit) < 1 or not 5 <= self.places <= 16:
            raise ValueError("count and limit must be at least 1 and places 5 to 16")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """For each graph the question, its control and its detour, where there is one; they are one group, of the graph's kind."""
        for i in range(self.count):
            kind, draw = self.kinds[i % len(self.kinds)], python_rng(rng.child("graph", i))
            edges = KINDS[kind](self.places)
            first, second = (named(self.places, draw) for _ in range(2))
            graph, other = joined(first, edges), joined(second, edges)
            ways = [way for a, b in itertools.permutations(first, 2) if (way := shortest(graph, a, b)) and len(way) > 2]
            way = draw.choice(ways)
            renamed = [second[first.index(place)] for place in way]
            yield item_of(f"{i}:plain", kind, graph, way, self.limit, draw)
            yield item_of(f"{i}:control", kind, other, shortest(other, renamed[0], renamed[-1]), self.limit, draw)
            closed = without(graph, way[0], way[1])
            if around := shortest(closed, way[0], way[-1]):
                yield item_of(f"{i}:detour", kind, closed, around, self.limit, draw, graph, (way[0], way[1]))

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where every step from start to goal is there, else 0; parts `shortest`, `looped` (a place named twice), `invalid` steps
        of those in `steps`, and `said`, whether any place was named."""
        held = json.loads(item.tests)
        graph, (start, goal, least) = held["graph"], held["way"]
        said = walked(next((one for one in episode.text.split("\n") if one.strip()), ""), graph)
        said = said if said[:1] == [start] or not said else [start, *said]
        steps = list(itertools.pairwise(said))
        invalid = sum(there not in graph[here] for here, there in steps)
        reached = bool(steps) and said[-1] == goal and not invalid
        looped = len(set(said)) < len(said)
        parts = {"shortest": float(reached and len(said) == least), "looped": float(looped), "invalid": float(invalid)}
        return Grade(float(reached), {**parts, "steps": float(len(steps)), "said": float(bool(said))})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """Shares of ways, the share of invalid steps among all, and ways reached in controls and detours, with intervals over graphs."""
        found: dict[str, float] = {}
        for metric, part in SHARES.items():
            values = [grade.score if part == "score" else grade.parts[part] for _, _, grade in rows]
            found |= share(values, [item.group for item, _, _ in rows], rng).named(metric)
        some = [(item, grade) for item, _, grade in rows if grade.parts["steps"]]
        if some:
            steps = [[grade.parts[part] for _, grade in some] for part in ("invalid", "steps")]
            found |= ratio(*steps, [item.group for item, _ in some], rng).named("plan_invalid_steps")
        for way in ("control", "detour"):
            mine = [(item.group, grade.score) for item, _, grade in rows if item.id.endswith(way)]
            if mine:
                found |= share([score for _, score in mine], [group for group, _ in mine], rng).named(f"plan_reached_{way}")
        return found


def item_of(key: str, kind: str, graph: Graph, way: list[str], limit: int, draw, told: Graph | None = None, closed=()) -> Item:
    """One question; the passages are told in drawn order. `told` is the graph before a passage was `closed`."""
    names = list(graph)
    draw.shuffle(names)
    lines = [f"From {name}: {', '.join(draw.sample((told or graph)[name], len((told or graph)[name])))}." for name in names]
    lines += [f"The passage between {closed[0]} and {closed[1]} is closed."] if closed else []
    shown = f"{EXAMPLE}{ASKED.format(start='talin', goal='kesan')} talin, morun, kesan\n\n"
    prompt = f"{shown}Places: {', '.join(names)}.\n" + "\n".join(lines) + "\n" + ASKED.format(start=way[0], goal=way[-1])
    tests = json.dumps({"graph": graph, "way": [way[0], way[-1], len(way)]})
    return Item(key, prompt, "generate", " " + ", ".join(way), limit, ("\n\n",), group=key.partition(":")[0], kind=kind, tests=tests)

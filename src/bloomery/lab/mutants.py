"""A noisy author of programs for claims about rollouts: the right solution of a generated task, with some of its lines replaced."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bloomery.core.rng import python_rng
from bloomery.seams import Episode, Item, Rng


@dataclass(frozen=True)
class Mutants:
    """An engine that knows the reference solution and writes it badly: each line is another one with probability `wrong`."""

    wrong: float = 0.6

    def sample(self, items: Sequence[Item], n: int, rng: Rng) -> list[list[Episode]]:
        """`n` programs of each item; they depend on the item and the key alone, so arms that share a key share their samples."""
        return [[self._episode(item, k, rng.child(item.id, k)) for k in range(n)] for item in items]

    def _episode(self, item: Item, k: int, rng: Rng) -> Episode:
        from bloomery.methods.task.programs import ENDS, STEPS

        draw = python_rng(rng)
        *steps, end = item.target.strip("\n").split("\n")
        lines = []
        for line, table in [*((one, STEPS) for one in steps), (end, ENDS)]:
            other = "    " + table[draw.choice(sorted(table))][1].format(k=draw.randint(2, 5))
            lines.append(other if draw.random() < self.wrong else line)
        return Episode(f"{item.id}#{k}", item.id, "\n" + "\n".join(lines) + "\n", ended="stop")


def solved(seed: int, arms: dict[str, dict[str, object]], tasks: dict[str, int], wrong: float) -> dict[str, float]:
    """By arm of alphacode's knobs, the share of tasks of which a submission passes all hidden tests; all arms choose from the same
    samples."""
    from bloomery.methods.rollout.alphacode import Alphacode
    from bloomery.methods.task.programs import Programs
    from bloomery.seams import Source
    from bloomery.tools.local import LocalTools

    task, rng = Programs(**tasks), Rng(("mutants", seed))
    items, found = list(task.items(Source(), rng.child("items"))), {}
    with tempfile.TemporaryDirectory() as cache:
        tools = LocalTools({}, Path(cache))
        for arm, knobs in arms.items():
            episodes = Alphacode(**knobs).rollout(Mutants(wrong), items, tools, rng.child("rollout"))
            best = {item.id: 0.0 for item in items}
            by_id = {item.id: item for item in items}
            for episode in episodes:
                if best[episode.item] < 1:
                    best[episode.item] = max(best[episode.item], task.grade(by_id[episode.item], episode, tools).score)
            found[arm] = sum(best.values()) / len(items)
    return found

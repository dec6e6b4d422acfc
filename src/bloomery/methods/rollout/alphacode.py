"""Rollout `alphacode`: many programs are sampled, and few are submitted, chosen by what they do."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.data.calls import examples, mutated, outcomes, trial
from bloomery.seams import Engine, Episode, Item, Rng, Tools


@dataclass(frozen=True)
class Alphacode:
    """Samples many programs, keeps those that pass the examples, and submits from the largest clusters of equal behaviour.

    P271 Li et al. 2022, arXiv 2203.07814
    Differs: programs are Python functions and examples are the calls that the prompt's docstring shows; other inputs are mutated
        examples, not a trained model's (the paper's own starting point for training that model); where no sample passes the
        examples, one of them is submitted all the same, as an item must have an answer. No text is submitted twice; equal samples count
        for the size of their cluster.
    Costs: `samples` completions and one run per distinct program.
    """

    samples: int = 64  # programs sampled for each item
    budget: int = 10  # programs submitted for each item at most
    inputs: int = 12  # other inputs that clusters are told apart by
    limit_s: float = 2.0  # seconds that a program has for all calls
    filtered: bool = True  # keep only programs that pass the examples
    clustered: bool = True  # one of each cluster in turn, largest first; else at random
    needs = ("run",)
    space = {"samples": [16, 64, 256], "inputs": [4, 12, 32]}

    def __post_init__(self) -> None:
        if min(self.samples, self.budget, self.inputs) < 1 or not self.limit_s > 0:
            raise ValueError("samples, budget and inputs must be at least 1 and limit_s above 0")

    def rollout(self, engine: Engine, items: Sequence[Item], tools: Tools, rng: Rng) -> list[Episode]:
        """The episodes submitted for each item; scored items are answered once."""
        found: list[Episode] = []
        for item, episodes in zip(items, engine.sample(items, self.samples, rng.child("sample")), strict=True):
            found += episodes if item.want == "score" else self.submitted(item, episodes, tools, rng.child("submit", item.id))
        return found

    def submitted(self, item: Item, episodes: Sequence[Episode], tools: Tools, rng: Rng) -> list[Episode]:
        """At most `budget` of an item's episodes, the surest first."""
        shown = examples(item.prompt)
        shuffled, times = list(episodes), Counter(one.text for one in episodes)
        python_rng(rng.child("order")).shuffle(shuffled)
        order = list({one.text: one for one in reversed(shuffled)}.values())[::-1]  # the first of each text
        if not shown:  # nothing to choose by
            return order[: self.budget]
        calls = [call for call, _ in shown]
        other = mutated(calls, self.inputs, rng.child("inputs")) if self.clustered else []
        said = {}
        for text in (one.text for one in order) if self.filtered or self.clustered else ():
            ran = tools.run(trial(item.prompt + text, [*calls, *other]), {}, self.limit_s)
            said[text] = outcomes(ran.stdout, len(calls) + len(other))
        if self.filtered:
            order = [one for one in order if all(map(same, said[one.text], (want for _, want in shown)))] or order[:1]
        if not self.clustered:
            return order[: self.budget]
        clusters: dict[tuple, list[Episode]] = {}
        for one in order:
            clusters.setdefault(said[one.text], []).append(one)
        largest = sorted(clusters.values(), key=lambda cluster: sum(times[one.text] for one in cluster), reverse=True)
        return in_turn(largest, self.budget)


def same(said: str | None, wanted: str) -> bool:
    """Whether an outcome is the one that an example shows, as values where both are literals, so that quotes do not matter."""
    try:
        return said == wanted or (said is not None and ast.literal_eval(said) == ast.literal_eval(wanted))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False


def in_turn(clusters: Sequence[Sequence[Episode]], budget: int) -> list[Episode]:
    """One episode of each cluster, then a second of each that has one, until the budget is spent."""
    longest = max(map(len, clusters), default=0)
    return [cluster[k] for k in range(longest) for cluster in clusters if k < len(cluster)][:budget]

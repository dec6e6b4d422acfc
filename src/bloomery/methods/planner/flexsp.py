from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from bloomery.num.clusters import Cluster
from bloomery.num.step_cost import HALF, Job, Layout, bound, memory, of_block

Groups = tuple[int, ...]  # degrees, the largest first
Share = list[list[int]]  # places of the sequences that each group gets


@dataclass(frozen=True)
class Flexsp:
    """Divide devices into groups of unlike size, long sequences to large ones, so that all groups end at one time.

    P391 Wang et al. 2024, FlexSP, arXiv 2412.01523
    Differs: groups are found by splitting and joining from every even division, and sequences given out longest first, where the paper
    solves a mixed-integer program over buckets of lengths. A mesh of bloomery has one size of context: "meshes" are the even divisions
    by the same formulas, and "groups" what the paper would do.
    Costs: some thousand divisions; a second for 64 devices and 512 sequences.
    """

    more: int = 2  # how many micro-batches beyond the fewest that the memory allows are tried
    meshes = True

    def __post_init__(self) -> None:
        if self.more < 0:
            raise ValueError(f"more must not be negative, got {self.more}")

    def plan(self, job: Mapping[str, Any], cluster: Mapping[str, Any], measured: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """`job`: "config", a Config, and "lengths", tokens of the sequences of a step, or "rows" and "context"; "able" says why sizes
        cannot be. `cluster` has the fields of clusters.Cluster, and `measured` those that were measured. States are divided over all
        devices, as ZeRO stage 3 does it.

        Gives "groups": for each micro-batch its groups as {"degree", "sequences"}, with "seconds"; and "meshes", the even divisions that
        hold the longest sequence, the best first. Both are empty where none holds it.
        """
        on = Cluster(**{one.name: cluster[one.name] for one in fields(Cluster) if one.name in cluster})
        on = replace(on, **{name: value for name, value in (measured or {}).items() if name in cluster})
        lengths = list(job.get("lengths") or [job["context"]] * job["rows"])
        cost = _Cost(job["config"], max(lengths), on)
        able = job.get("able", lambda sizes: "")
        meshes = []
        for degree in (d for d in range(1, on.devices + 1) if on.devices % d == 0):
            even = (degree,) * (on.devices // degree)
            took, _ = self._whole(lengths, cost, lambda part, even=even: (even, *cost.given(part, even)))
            if took < math.inf and not able(_sizes(on.devices // degree, degree)):
                meshes.append({"sizes": _sizes(on.devices // degree, degree), "seconds": took})
        best = self._whole(lengths, cost, cost.divided)
        groups = [[{"degree": d, "sequences": mine} for d, mine in zip(*one, strict=True) if mine] for one in best[1]]
        return {"groups": groups, "seconds": best[0], "meshes": sorted(meshes, key=lambda one: (one["seconds"], one["sizes"]["context"]))}

    def _whole(self, lengths: list[int], cost: _Cost, divide: Any) -> tuple[float, list]:
        """Seconds of a step and the groups of its micro-batches, each of like lengths: as many of them as take the least."""
        order, best = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)), (math.inf, [])
        fewest = max(1, math.ceil(sum(lengths) / max(cost.room * cost.on.devices, 1)))
        for many in range(fewest, min(fewest + self.more, len(lengths)) + 1):
            took, found = 0.0, []
            for part in _even(order, lengths, many):
                groups, seconds, share = divide([(i, lengths[i]) for i in part])
                took, found = took + seconds, [*found, (groups, share)]
            best = min(best, (took, found), key=lambda one: one[0])
        return best


class _Cost:
    """Seconds and room of a group, from the shape of the model."""

    def __init__(self, cfg: Any, longest: int, on: Cluster) -> None:
        self.on, self.layers = on, cfg.layers
        job, spread = Job(cfg, on.devices, longest), Layout(shard=on.devices)
        terms = memory(job, spread)
        left = bound(on) - sum(terms[name] for name in ("weights", "gradients", "states", "logits"))
        self.room = left / (cfg.layers * of_block(job, spread))  # tokens that a device holds
        self.line = 6.0 * cfg.matmul_parameters() / (on.flops * on.reached)  # seconds of a token
        self.square = 6.0 * cfg.layers * cfg.query_width / (on.flops * on.reached)  # of a pair of tokens
        self.sent = 2 * HALF * 2 * (cfg.query_width + cfg.key_width)  # bytes of a token and block, forward and backward

    def seconds(self, degree: int, tokens: float, squares: float) -> float:
        """Of a group: its products, and what it sends over heads."""
        if not tokens:
            return 0.0
        sent = (degree - 1) / degree * self.sent * tokens / degree
        exchanged = self.layers * self.on.seconds(sent, degree, min(degree, self.on.gpus), rails=False)
        return (self.line * tokens + self.square * squares) / degree + exchanged

    def given(self, part: Sequence[tuple[int, int]], groups: Groups) -> tuple[float, Share]:
        """The longest first, each to the group that then ends first and has room: (seconds of the slowest, shares)."""
        ends = [(0.0, at, 0.0, 0.0) for at in range(len(groups))]  # end, group, tokens, squares
        share: Share = [[] for _ in groups]
        for i, length in part:
            tried = []
            for _, at, tokens, squares in ends:
                if tokens + length <= self.room * groups[at]:
                    tried.append((self.seconds(groups[at], tokens + length, squares + length**2), at, tokens + length, squares + length**2))
            if not tried:
                return math.inf, share
            best = heapq.nsmallest(1, tried)[0]
            ends[best[1]] = best
            share[best[1]].append(i)
        return max(end[0] for end in ends), share

    def divided(self, part: Sequence[tuple[int, int]]) -> tuple[Groups, float, Share]:
        """The groups that end first, from every even division by steps that split one or join two."""
        seen: dict[Groups, tuple[float, Share]] = {}

        def value(groups: Groups) -> float:
            if groups not in seen:
                seen[groups] = self.given(part, groups)
            return seen[groups][0]

        n = self.on.devices
        starts = [(d,) * (n // d) for d in range(1, n + 1) if n % d == 0]
        for at in starts:
            while (step := min(_steps(at), key=lambda one: (value(one), one), default=at)) != at and value(step) < value(at):
                at = step
        best = min([*starts, *seen], key=lambda one: (value(one), len(one), one))
        return best, *seen[best]


def _steps(groups: Groups) -> Iterator[Groups]:
    """Divisions that differ by one group split in halves or two of a size joined."""
    for degree, many in Counter(groups).items():
        rest = list(groups)
        rest.remove(degree)
        if degree % 2 == 0:
            yield tuple(sorted([*rest, degree // 2, degree // 2], reverse=True))
        if many > 1:
            rest.remove(degree)
            yield tuple(sorted([*rest, 2 * degree], reverse=True))


def _even(order: list[int], lengths: list[int], many: int) -> list[list[int]]:
    """Sequences in order, cut into so many parts of about as many tokens."""
    parts: list[list[int]] = [[] for _ in range(many)]
    total, done = sum(lengths), 0
    for i in order:
        parts[min(many - 1, done * many // total)].append(i)
        done += lengths[i]
    return [part for part in parts if part]


def _sizes(data: int, context: int) -> dict[str, int]:
    return {"pipeline": 1, "data": data, "context": context, "shard": 1, "expert": 1, "tensor": 1}

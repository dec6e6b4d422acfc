from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from bloomery.num.clusters import SHARE, Cluster
from bloomery.num.step_cost import HALF, Job, Layout, bound, forward, memory


@dataclass(frozen=True)
class Holmes:
    """Clusters with unlike networks in one run: stages of the pipeline meet at the slow links, and copies sum within a cluster.

    P224 Yang et al. 2023, Holmes, arXiv 2312.03549
    Differs: blocks go one by one to the stage that would end first, which is the best division by these formulas, where the paper gives
    stages blocks in proportion to their speed times a factor; speeds are predicted, not measured. What stages hand on is not hidden by
    products, as the schedules do not hide it; activations and gradients pass each other on a link, whose rate is that of one direction.
    Costs: a division for each size of tensor and of a stage.
    """

    again: bool = True  # blocks keep their inputs and are computed twice
    meshes = True

    def plan(self, job: Mapping[str, Any], cluster: Mapping[str, Any], measured: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """`job`: "config", a Config, "rows" and "context"; optional "micro", rows of a micro-batch, "able", and "gradients" and "states"
        as in step_cost.Job. `cluster`: the fields of clusters.Cluster, or "clusters", a list of such, with "between", the bytes a second
        that a device sends from one to another. `measured` replaces fields of all.

        Gives "meshes", the best first: "sizes"; "stages", the cluster of each stage of the pipeline; "blocks", how many each has;
        "memory" of the fullest device, and "seconds". Ranks count through the clusters in their order, so that `pipeline`, the outermost
        axis, is the only one that reaches from one to another.
        """
        given = cluster.get("clusters", [cluster])
        on = [Cluster(**{one.name: each[one.name] for one in fields(Cluster) if one.name in each}) for each in given]
        on = [replace(each, **{name: value for name, value in (measured or {}).items() if hasattr(each, name)}) for each in on]
        more = {name: job[name] for name in ("gradients", "states") if name in job}
        step = Job(job["config"], job["rows"], job["context"], **more)
        able, between, found = job.get("able", lambda sizes: ""), cluster.get("between", math.inf), []
        for size in _divisors(math.gcd(*(each.devices for each in on))):
            for tensor in _divisors(math.gcd(size, *(each.gpus for each in on))):
                one = self._laid(step, on, size, tensor, job.get("micro", 1), between)
                if one and not able(one["sizes"]):
                    found.append(one)
        return {"meshes": sorted(found, key=lambda one: (one["seconds"], one["sizes"]["pipeline"], one["sizes"]["tensor"]))}

    def _laid(self, job: Job, on: Sequence[Cluster], size: int, tensor: int, micro: int, between: float) -> dict[str, Any] | None:
        """Stages of `size` devices, `tensor` of which share each matrix; None where that cannot be or does not fit."""
        stages = [at for at, each in enumerate(on) for _ in range(each.devices // size)]
        p, data, cfg = len(stages), size // tensor, job.cfg
        if p > cfg.layers or job.rows % (data * micro) or cfg.kv_heads % tensor or cfg.ffn % tensor:
            return None
        plain = Layout(data=data, tensor=tensor, micro=micro, again=self.again)
        many = job.rows // data // micro
        passes, each, once = 4 if self.again else 3, [], []
        for at in stages:
            computed, sent = forward(job, plain, on[at])
            each.append(many * (passes * computed + (passes - 1) * sent))
            summed = 2 * (data - 1) / data * job.gradients * cfg.block_parameters() / tensor
            inside = max(1, min(data, on[at].gpus // tensor))
            each[-1] += on[at].seconds(summed, data, inside) if data > 1 else 0.0
            once.append(0.0)
        edge = HALF * micro * job.context * cfg.width / tensor
        for at, (a, b) in enumerate(pairwise(stages)):  # neighbours hand on an activation and a gradient at once, one each way
            met = many * edge / (SHARE * (between if a != b else on[a].inter))
            once[at], once[at + 1] = once[at] + met, once[at + 1] + met
        head = many * 3 * micro * job.context * 2 * cfg.head_parameters() / tensor / (on[stages[-1]].flops * on[stages[-1]].reached)
        once[-1] += head
        blocks = divided(cfg.layers, each, once)
        held = [self._memory(job, plain, blocks[i], p, i, many) for i in range(p)]
        if any(need > bound(on[at]) for need, at in zip(held, stages, strict=True)):
            return None
        slowest = max(n * one + more for n, one, more in zip(blocks, each, once, strict=True))
        took = slowest * (1 + (p - 1) / many)
        sizes = {"pipeline": p, "data": data, "context": 1, "shard": 1, "expert": 1, "tensor": tensor}
        return {"sizes": sizes, "stages": stages, "blocks": blocks, "memory": max(held), "seconds": took}

    def _memory(self, job: Job, plain: Layout, blocks: int, p: int, stage: int, many: int) -> float:
        """Bytes of a device of a stage: what a model of its blocks alone takes, with the micro-batches that are under way there."""
        own = replace(job, cfg=replace(job.cfg, layers=blocks, windows=(), dense_layers=()))
        terms = memory(own, plain)
        tables = (HALF + job.gradients + job.states) * job.cfg.vocab * job.cfg.width / plain.tensor
        terms["activations"] *= min(many, p - stage)
        return sum(terms.values()) - (tables if 0 < stage < p - 1 else 0.0)


def divided(blocks: int, each: Sequence[float], once: Sequence[float]) -> list[int]:
    """How many blocks every stage gets, at least one: the largest of n x each + once is as small as can be."""
    found = [1] * len(each)
    for _ in range(blocks - len(each)):
        ends = [(n + 1) * one + more for n, one, more in zip(found, each, once, strict=True)]
        found[ends.index(min(ends))] += 1
    return found


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from bloomery.core.mesh import AXES, factored
from bloomery.num.clusters import Cluster
from bloomery.num.step_cost import Job, Layout, bound, memory, micros, seconds, unfit


@dataclass(frozen=True)
class Ranked:
    """Every mesh of a cluster by the predicted seconds of a step, without those that the shape or the memory rules out.

    Narayanan et al. 2021, arXiv 2104.04473
    Differs: the paper derives rules (tensor within a node, then pipeline, then data); here all meshes are tried against its formulas and
    those of num/step_cost.py, with stages of ZeRO, context and expert parallelism, micro-batches and blocks that are computed twice.
    Costs: some tens of microseconds for each mesh; a second or two for 512 devices.
    """

    micro: int = 16  # rows of a micro-batch at most, where the job names none
    chunks: int = 4  # stretches of blocks that a pipeline stage holds at most
    meshes = True

    def __post_init__(self) -> None:
        if min(self.micro, self.chunks) < 1:
            raise ValueError(f"micro and chunks must be at least 1, got {self.micro} and {self.chunks}")

    def plan(self, job: Mapping[str, Any], cluster: Mapping[str, Any], measured: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """`job`: "config", a Config; "rows" and "context" of a step; optional are "gradients", "states" and "fused" as in step_cost.Job,
        "axes" that may be used, "able", which says why sizes cannot be ("" where they can), and "micro", "stage", "again", "chunks", which
        are then not tried. `cluster` has the fields of clusters.Cluster, and `measured` those that were measured.

        Gives "meshes", the best first: "sizes", the other fields of a Layout, "seconds" and "memory" with their "terms", "fits"; and
        "rejected", how many cannot be, by reason, with "least", the mesh that misses the memory by least.
        """
        more = {name: job[name] for name in ("gradients", "states", "fused") if name in job}
        step = Job(job["config"], job["rows"], job["context"], **more)
        on = Cluster(**{one.name: cluster[one.name] for one in fields(Cluster) if one.name in cluster})
        on = replace(on, **{name: value for name, value in (measured or {}).items() if name in cluster})
        found, rejected, large = [], Counter(), []
        for layout in self._layouts(step, on, job, rejected):
            terms = memory(step, layout)
            if sum(terms.values()) > bound(on):
                rejected["memory"] += 1
                large.append((sum(terms.values()), layout))
                continue
            took = seconds(step, layout, on)
            found.append({**_told(layout), "seconds": sum(took.values()), "memory": sum(terms.values()),
                          "seconds_terms": took, "memory_terms": terms, "micros": micros(step, layout)})  # fmt: skip
        found.sort(key=lambda one: (one["seconds"], sum(size > 1 for size in one["sizes"].values()), tuple(one["sizes"].values())))
        least = min(large, key=lambda one: one[0], default=None)
        told = {"least": {**_told(least[1]), "memory": least[0]}} if least else {}
        return {"meshes": found, "rejected": dict(rejected), "bound": bound(on), **told}

    def _layouts(self, step: Job, on: Cluster, job: Mapping[str, Any], rejected: Counter) -> Iterator[Layout]:
        """All that the shape allows; the others are counted by reason."""
        able, axes = job.get("able", lambda sizes: ""), tuple(job.get("axes", AXES))
        for each in factored(on.devices, len(axes)):
            plain = Layout(**dict(zip(axes, each, strict=True)), micro=job.get("micro", 1))
            if why := unfit(step, plain, on) or able(plain.sizes):
                rejected[why] += 1
                continue
            for layout in self._variants(step, plain, job):
                if not unfit(step, layout, on):
                    yield layout

    def _variants(self, step: Job, plain: Layout, job: Mapping[str, Any]) -> Iterator[Layout]:
        """What the job leaves open."""
        own = step.rows // plain.sharers
        tried = {
            "micro": [size for size in (1 << i for i in range(20)) if size <= min(self.micro, own) and own % size == 0],
            "stage": (1, 2, 3) if plain.shard > 1 else (3,),
            "again": (False, True),
            "chunks": range(1, self.chunks + 1) if plain.pipeline > 1 else (1,),
        }
        tried |= {name: [job[name]] for name in tried if name in job}
        for micro in tried["micro"]:
            for stage in tried["stage"]:
                for again in tried["again"]:
                    for chunks in tried["chunks"]:
                        yield replace(plain, micro=micro, stage=stage, again=again, chunks=chunks)


def _told(layout: Layout) -> dict[str, Any]:
    return {"sizes": layout.sizes, **{name: getattr(layout, name) for name in ("stage", "micro", "again", "chunks")}}

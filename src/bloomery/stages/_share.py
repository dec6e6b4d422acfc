"""A rank's share of a rehearsed step: what one process would hold and do, times the shares by which num/step_cost.py ranks meshes.

Rows are divided before the rehearsal, which then has a rank's own micro-batches; the formulas say what is left of the rest.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

from bloomery.core.machine import Machine
from bloomery.core.mesh import BATCH, written
from bloomery.num.clusters import SHARE, Cluster
from bloomery.num.step_cost import FULL, HALF, Job, Layout, memory, micros, of_block, seconds, tokens
from bloomery.stages import _planned
from bloomery.stages._load import Load

OWN = ("compute", "bubble", "update")  # terms of a step in which nothing is sent
INSIDE = "tensor, context, expert"  # the term of what is sent within the blocks


def own(load: Load) -> Load:
    """The rows that a rank reads, in its own micro-batches."""
    if load.layout.sharers == 1:
        return load
    from bloomery.train.batches import micro_rows

    each = -(-load.rows // load.layout.sharers)
    return replace(load, rows=each, micro=micro_rows(each, load.micro, load.context))


class Share:
    """Of a rank whose `own` load this is; with one process everything is as it was.

    The formulas are of numbers of 16 bits at work: with wider ones all bytes are `wide` times theirs, and gradients so many times less
    of them.
    """

    def __init__(self, load: Load, machine: Machine) -> None:
        self.load, self.machine, self.layout = load, machine, replace(load.layout, micro=load.micro)
        self.many, self.alone = self.layout.devices > 1, Layout(micro=load.micro)
        self.wide = FULL // HALF if load.precision == "float32" else 1
        self.whole = Job(load.cfg, load.rows, load.context, gradients=FULL // self.wide)  # one process that does what this rank is given
        over = 1 if load.tables else self.layout.tensor  # tables that stay whole are as many times larger as the formulas cut them
        self.job = replace(self.whole, cfg=replace(load.cfg, vocab=load.cfg.vocab * over), rows=load.rows * self.layout.sharers)

    @cached_property
    def parts(self) -> dict[str, float]:
        """Of each kind of memory what is left for the fullest rank."""
        one, rank = memory(self.whole, self.alone), memory(self.job, self.layout)
        found = {name: rank[name] / one[name] for name in one}
        if not self.load.sequence:  # what lies between matrices grows with the width alone, and every rank along tensor has all of it
            each, t = of_block(self.whole, self.alone), self.layout.tensor
            between = of_block(replace(self.whole, cfg=replace(self.load.cfg, width=2 * self.load.cfg.width)), self.alone) - each
            found["activations"] *= 1 + (t - 1) * between / each
        return found

    def held(self, step: Any) -> Any:
        """The rehearsed step with the sizes of the fullest rank, which begins with the whole model before it keeps its part."""
        if not self.many:
            return step
        part, one = self.parts, self.layout
        states, weights, kept = part["states"], part["weights"], step.kept * part["activations"]
        masters = step.masters * (states if step.weights else weights)  # which are the working weights in float32
        begun = FULL * self.load.cfg.parameters() + masters if one.pipeline * one.shard * one.expert * one.tensor > 1 else 0.0
        found = replace(
            step,
            making=max(step.making * states, begun),
            frozen=step.frozen * weights,
            frozen_blocks=step.frozen_blocks * weights,
            trained_blocks=step.trained_blocks * weights,
            weights=step.weights * weights,
            masters=masters,
            gradients=step.gradients * part["gradients"],
            states=step.states * states,
            audit=step.audit * states,
            kept=kept,
            passes=kept + (step.passes - step.kept) * part["logits"],
            update=step.update * states,
            checkpoint=round(step.checkpoint * states),
        )
        return replace(found, unused=step.unused * (found.standing + found.passes) / (step.standing + step.passes))

    def taken(self, micro: dict[str, float], once: float, trained: float) -> tuple[dict[str, float], float, dict[str, float]]:
        """Seconds of a micro-batch by part, of what a step does once, and of what is sent and waited for in a step, from those of one
        process; `trained` is the share of the parameters that have gradients."""
        if not self.many:
            return micro, once, {}
        one, rank = (seconds(*pair, self.on) for pair in ((self.whole, self.alone), (self.job, self.layout)))
        part = rank["compute"] / one["compute"]
        shared = {name: value * (1 / self.layout.pipeline if name == "overhead" else part) for name, value in micro.items()}
        more = {"sent": sum(self.moved(rank, trained, self.on).values())}
        if "bubble" in rank:
            inside = rank.get(INSIDE, 0.0)
            share = rank["bubble"] / (rank["compute"] + inside)
            more["bubble"] = share * (self.load.micros * sum(shared.values()) + inside)
        return shared, once * rank["update"] / one["update"], more

    def moved(self, terms: dict[str, float], trained: float, on: Cluster) -> dict[str, float]:
        """What is sent, of the terms of a step, in seconds: copies sum no more gradients than there are, a rank of a pipeline sends as
        often as its stages ask for, each along tensor whole tokens, where it has them; and what the formulas leave out."""
        handed = self.load.handed / (2 * self.layout.chunks)
        times = {"data": trained * self.load.averaged, "pipeline": handed * (1 if self.load.sequence else self.layout.tensor)}
        found = {name: times.get(name, 1) * value for name, value in terms.items() if name not in OWN}
        for name, size in self.beside.items():
            found[name] = found.get(name, 0.0) + size / (SHARE * min(on.intra, on.inter))
        return found

    @cached_property
    def beside(self) -> dict[str, float]:
        """Bytes of a step that the formulas leave out, by term: the gradient of a table that both ends of a pipeline have, sums of
        embedding and head where these are cut, and what other methods of context send beyond all-to-alls where each row is one document."""
        job, one, cfg, wide = self.job, self.layout, self.load.cfg, self.job.gradients
        many, found = micros(job, one), {}
        if one.pipeline > 1 and cfg.tied:
            found["pipeline"] = cfg.vocab * cfg.width * wide / one.shard
        k, passed = one.tensor, many * tokens(job, one)
        if k > 1:  # whole activations: into the blocks and out of the head, forward and backward; of the head three figures of a token
            sums = 4 if self.load.tables else 2 if self.load.sequence else 0
            figures = 3 * k * wide if self.load.tables else 0
            found[INSIDE] = (k - 1) / k * passed * (sums * HALF * cfg.width + figures)
        if (c := one.context) > 1 and self.load.across != "ulysses":
            q, key, heads = cfg.query_width / k, cfg.key_width / k, cfg.heads / k
            whole = 2 * 2 * (c - 1) / c * HALF * (q + key)
            sent = {
                "ring": 2 * key * (2 * (c - 1) * HALF + c * wide),
                "token_ring": (c - 1) * (2 * HALF * q + wide * (q + 2 * heads) + wide * (2 * q + heads)),
                "bytescale": (c - 1) * 2 * key * wide,
            }.get(self.load.across, whole)
            found[INSIDE] = found.get(INSIDE, 0.0) + cfg.layers / one.pipeline * passed * (sent - whole)
        return found

    @cached_property
    def on(self) -> Cluster:
        """Processes of this machine, each with what it was measured to do, and the usual links between them."""
        mode = {"precision": self.load.precision, **({"device": self.load.device} if self.load.device != "cpu" else {})}
        found = _planned.cluster(mode, self.machine, self.layout.devices)
        return replace(found, intra=found.intra / self.wide, inter=found.inter / self.wide, bandwidth=found.bandwidth / self.wide)

    @property
    def turns(self) -> int:
        """Ranks that score rows of their own."""
        return math.prod(self.layout.sizes[axis] for axis in BATCH)

    def sent(self, trained: float) -> dict[str, int]:
        """Bytes that a rank with neighbours on both sides sends in a step, by term: its seconds over links of one byte a second."""
        links = Cluster(1, self.layout.devices, 1 / SHARE, 1 / SHARE, memory=1.0, flops=1.0, bandwidth=1.0, wait=0.0, hides=0.0)
        found = self.moved(seconds(self.job, self.layout, links), trained, links)
        return {name: round(self.wide * size) for name, size in found.items()}

    def facts(self, trained: float) -> dict[str, Any]:
        """For the plan and the card: how many processes share the step, as what, and the bytes that each sends."""
        if not self.many:
            return {}
        sizes = {axis: size for axis, size in self.layout.sizes.items() if size > 1}
        rate = self.wide * min(self.on.intra, self.on.inter)
        return {"processes": self.layout.devices, "mesh": sizes, "sent_bytes": self.sent(trained), "link_bytes_per_second": rate}

    def uncounted(self) -> str:
        """What the formulas do not know of a mesh, "" where nobody shares the step."""
        if not self.many:
            return ""
        also = f", and {self.load.aside}" if self.load.aside else ""
        return f"what collectives hold and how processes wait for and disturb each other on the mesh {written(self.layout.sizes)}{also}"

"""Seconds and bytes of a training step on a mesh, from the shape of the model and the speeds of a cluster. Free of torch.

Products take their operations over the speed that large ones reach, or their weights over the speed of memory; what lies between them
takes its bytes over that speed. Terms follow Narayanan et al. 2021 (arXiv 2104.04473: bubbles, what stages send), Rajbhandari et al.
2020 (1910.02054: states, gradients, weights), Korthikanti et al. 2022 (2205.05198: activations) and Jacobs et al. 2023 (2309.14509:
all-to-all over heads). What is left out: how ranks disturb each other, stragglers, reading text, saving.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bloomery.core.mesh import AXES
from bloomery.nn.config import Config
from bloomery.num.clusters import Cluster

HALF, FULL = 2, 4  # bytes of a number at work, and of a sum
LAUNCH = 5e-6  # seconds until a kernel runs
KERNELS = 14  # of the forward pass of a block
CHUNK = 1024  # tokens whose logits exist at once
TOUCHED = 30  # bytes that an update reads and writes for a parameter: gradient, master, two moments, working weight
SHARE_OF_MEMORY = 0.85  # of its rate that reading and writing long arrays reaches
RESERVED = 0.08  # share of a device's memory that allocators, libraries and buffers of collectives take


@dataclass(frozen=True)
class Job:
    """What a step trains, and how its numbers are kept."""

    cfg: Config
    rows: int
    context: int  # tokens of a row
    gradients: int = FULL  # bytes of a parameter's gradient
    states: int = 12  # bytes of its master and two moments
    fused: bool = True  # attention keeps no scores, elementwise operations run together, nothing is dropped out


@dataclass(frozen=True)
class Layout:
    """How a step is laid out: sizes of the axes, and what goes with them."""

    pipeline: int = 1
    data: int = 1
    context: int = 1
    shard: int = 1
    expert: int = 1
    tensor: int = 1
    stage: int = 3  # of ZeRO, along `shard`
    micro: int = 1  # rows of a micro-batch
    again: bool = False  # blocks keep their inputs and are computed twice
    chunks: int = 1  # stretches of blocks that a pipeline stage holds; 1: 1F1B, more: interleaved

    @property
    def sizes(self) -> dict[str, int]:
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def devices(self) -> int:
        return math.prod(self.sizes.values())

    @property
    def sharers(self) -> int:
        """Ranks that read other rows."""
        return self.data * self.shard * self.expert


def unfit(job: Job, layout: Layout, cluster: Cluster) -> str:
    """Why a model of this shape cannot be laid out so, "" where it can."""
    cfg, one = job.cfg, layout
    divides = (
        ("tensor", one.tensor, cfg.kv_heads, "key heads"),
        ("tensor", one.tensor, cfg.expert_ffn or cfg.ffn, "feed-forward units"),
        ("context", one.context, job.context, "tokens of a row"),
        ("context x tensor", one.context * one.tensor, cfg.kv_heads, "key heads"),
        ("pipeline x chunks", one.pipeline * one.chunks, cfg.layers, "blocks"),
        ("expert", one.expert, cfg.experts or 1, "experts"),
        ("data x shard x expert x micro", one.sharers * one.micro, job.rows, "rows of a step"),
    )
    if one.tensor > cluster.gpus:
        return "tensor reaches over more than a node"
    for name, size, number, what in divides:
        if number % size:
            return f"{name} does not divide the {what}"
    if one.chunks > 1 and (one.pipeline == 1 or (job.rows // one.sharers // one.micro) % one.pipeline):
        return "interleaved stages need micro-batches in multiples of the pipeline"
    return ""


# ---- parameters -----------------------------------------------------------------------------------------------------------


def block(job: Job, layout: Layout) -> tuple[float, float]:
    """Parameters of a block that a rank holds along tensor and expert: (those that all along `expert` have, those of its experts)."""
    cfg = job.cfg
    each = (3 if cfg.gated else 2) * cfg.width * (cfg.expert_ffn or cfg.ffn) * cfg.experts
    mixed = sum(cfg.mixed(i) for i in range(cfg.layers)) / cfg.layers
    whole = sum(cfg.block_parameters(i, idle=True) for i in range(cfg.layers)) / cfg.layers - mixed * each
    return whole / layout.tensor + cfg.vector_parameters(), mixed * each / (layout.tensor * layout.expert)


def held(job: Job, layout: Layout) -> tuple[float, float, float]:
    """Parameters of the fullest rank before `shard` cuts them: of its blocks, of its experts, of embedding and head."""
    cfg, blocks = job.cfg, job.cfg.layers / layout.pipeline
    table = cfg.vocab * cfg.width / layout.tensor
    ends = table * (2 if layout.pipeline == 1 and not cfg.tied else 1)
    shared, own = block(job, layout)
    return blocks * shared, blocks * own, ends


# ---- memory ---------------------------------------------------------------------------------------------------------------


def memory(job: Job, layout: Layout) -> dict[str, float]:
    """Bytes of the fullest device, by term."""
    shared, own, ends = held(job, layout)
    blocks, total, s = shared + own, shared + own + ends, layout.shard
    weights = HALF * total
    if s > 1 and layout.stage == 3:  # two blocks are there at a time, and embedding and head
        weights = HALF * (total / s + 2 * sum(block(job, layout)) + ends)
    gradients = job.gradients * (total / s if layout.stage > 1 or s == 1 else total)
    if s > 1 and layout.stage > 1:
        gradients += job.gradients * max(blocks / (job.cfg.layers / layout.pipeline), ends)  # before they are scattered
    found = {"weights": weights, "gradients": gradients, "states": job.states * total / s, "activations": kept(job, layout)}
    found["logits"] = min(CHUNK, tokens(job, layout)) * job.cfg.vocab * 3 * FULL / layout.tensor
    return found


def tokens(job: Job, layout: Layout) -> float:
    """Of a micro-batch, on one rank."""
    return layout.micro * job.context / layout.context


def micros(job: Job, layout: Layout) -> int:
    """Micro-batches of a step."""
    return job.rows // layout.sharers // layout.micro


def of_block(job: Job, layout: Layout) -> float:
    """Bytes that the backward pass needs of a block, for a token."""
    cfg = job.cfg
    active = (cfg.top * (cfg.expert_ffn or cfg.ffn) + cfg.shared_ffn) if cfg.experts else cfg.ffn
    whole = 8 * cfg.width + (0 if job.fused else 2 * cfg.width)  # inputs of norms and of products; masks of what is dropped out
    cut = HALF * (2 * cfg.query_width + 2 * cfg.key_width + (3 if cfg.gated else 2) * active)
    cut += 0 if job.fused else 5 * cfg.heads * job.context  # probabilities, their mask, and what is left of them
    return (whole + cut) / layout.tensor  # along tensor norms have parts of the tokens


def kept(job: Job, layout: Layout) -> float:
    """Bytes of activations that the first stage keeps."""
    p, v, blocks = layout.pipeline, layout.chunks, job.cfg.layers / layout.pipeline
    alive = min(micros(job, layout), p * (1 + (p - 1) / (p * v) if v > 1 else 1))  # micro-batches under way
    each = HALF * job.cfg.width / layout.tensor if layout.again else of_block(job, layout)
    return tokens(job, layout) * (alive * blocks * each + (of_block(job, layout) if layout.again else 0))


def bound(cluster: Cluster) -> float:
    """Bytes of a device that a step may take."""
    return (1 - RESERVED) * cluster.memory


# ---- seconds --------------------------------------------------------------------------------------------------------------


def forward(job: Job, layout: Layout, cluster: Cluster) -> tuple[float, float]:
    """Seconds of a micro-batch's forward pass through one block: (computed, sent)."""
    cfg, t, many = job.cfg, layout.tensor, tokens(job, layout)
    active = sum(cfg.block_parameters(i) for i in range(cfg.layers)) / cfg.layers
    scores = 4 * job.context * cfg.query_width * (0.5 if cfg.causal and job.fused else 1)
    flops = many * (2 * active + scores) / t
    products = max(flops / (cluster.flops * cluster.reached), HALF * sum(block(job, layout)) / cluster.bandwidth)
    units = (cfg.top * (cfg.expert_ffn or cfg.ffn) + cfg.shared_ffn) if cfg.experts else cfg.ffn
    if job.fused:  # norms and sums; turning queries and keys, and the activation
        touched = 20 * cfg.width + 4 * (cfg.query_width + cfg.key_width) + HALF * (3 if cfg.gated else 2) * units
    else:  # norms, sums with what is dropped out; the activation, and probabilities that are read and written
        touched = 22 * cfg.width + 2 * HALF * units + 9 * cfg.heads * job.context
    between = many * touched / t / (SHARE_OF_MEMORY * cluster.bandwidth)
    sent, at = 0.0, cluster.inside(tuple(layout.sizes.values()))
    if t > 1:
        sent += 2 * cluster.seconds(2 * (t - 1) / t * HALF * many * cfg.width, t, at["tensor"])
    if (c := layout.context) > 1:
        exchanged = (c - 1) / c * HALF * many * 2 * (cfg.query_width + cfg.key_width) / t
        sent += cluster.seconds(exchanged, c, at["context"], rails=False)
    if (e := layout.expert) > 1:
        sent += 2 * cluster.seconds((e - 1) / e * HALF * many * cfg.top * cfg.width, e, at["expert"], rails=False)
    return max(products + between, KERNELS * LAUNCH), sent


def seconds(job: Job, layout: Layout, cluster: Cluster) -> dict[str, float]:
    """Seconds of a step, by term."""
    cfg, m, p, v = job.cfg, micros(job, layout), layout.pipeline, layout.chunks
    at, blocks = cluster.inside(tuple(layout.sizes.values())), cfg.layers / layout.pipeline
    computed, sent = forward(job, layout, cluster)
    passes = 4 if layout.again else 3
    head = 3 * tokens(job, layout) * 2 * cfg.head_parameters() / layout.tensor / (cluster.flops * cluster.reached)
    micro = blocks * passes * computed + head, blocks * (3 if layout.again else 2) * sent  # a backward pass sends what the forward does
    found = {"compute": m * micro[0], "tensor, context, expert": m * micro[1]}
    if p > 1:
        found["bubble"] = (p - 1) / v * sum(micro)
        edge = HALF * tokens(job, layout) * cfg.width / layout.tensor
        found["pipeline"] = 2 * m * v * cluster.seconds(edge, p, at["pipeline"], rails=False)
    found |= gradients(job, layout, cluster, found["compute"], at)
    total = sum(held(job, layout))
    found["update"] = TOUCHED * total / layout.shard / (SHARE_OF_MEMORY * cluster.bandwidth)
    return {name: value for name, value in found.items() if value}


def gradients(job: Job, layout: Layout, cluster: Cluster, computed: float, at: dict[str, int]) -> dict[str, float]:
    """Sums over copies, and what ZeRO gathers and scatters: at stage 3 what products of so many seconds do not hide, but for one block."""
    shared, own, ends = held(job, layout)
    s, m, found = layout.shard, micros(job, layout), {}
    for part, axes in ((shared + ends, ("data", "context", "expert")), (own, ("data", "context"))):
        n, k = (math.prod(layout.sizes[axis] for axis in axes), math.prod(at[axis] for axis in axes))
        if part and n > 1:
            found["data"] = found.get("data", 0.0) + cluster.seconds(2 * (n - 1) / n * job.gradients * part / s, n, k)
    if s > 1:
        blocks = shared + own
        gathers = HALF * (blocks + ends if layout.stage < 3 else m * (2 * blocks + ends))
        scatters = job.gradients * (blocks + ends) * (1 if layout.stage == 1 else m)
        units = job.cfg.layers / layout.pipeline + 1  # each is gathered and scattered by itself
        times = units * {1: 2, 2: 1 + m, 3: 3 * m}[layout.stage]
        sent = cluster.seconds((s - 1) / s * (gathers + scatters), s, at["shard"]) + (times - 1) * cluster.seconds(0, s, at["shard"])
        hidden = cluster.hides * computed if layout.stage == 3 else 0.0
        found["shard"] = max(sent - hidden, sent / units)
    return found


def flops(job: Job, again: bool = False) -> float:
    """Of a step's products: forward, backward, and the forward pass once more where blocks are computed twice."""
    each = job.cfg.flops_per_token(job.context)
    once = (each - 6.0 * job.cfg.head_parameters()) / 3 if again else 0.0
    return job.rows * job.context * (each + once)

"""What the papers count that a rank sends in a step, in bytes, for the runs of mesh_run.py: rank 0's."""

from __future__ import annotations

import torch

from bloomery.core.mesh import AXES
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.num.stretches import Seen
from bloomery.seams import Batch, Rng

FLOAT, NUMBER, WORD = 4, 4, 8  # bytes of a weight or an activation, of a document's number, and of a count of tokens
STAGES = {"interleaved_pipeline": 2, "zero_bubble": 2}  # of a rank; one of the others


class Held:
    """Numbers of parameters that rank 0 holds of a model on a mesh; with `words` tables are cut too."""

    def __init__(self, cfg: Config, n: dict[str, int], owners: list[int], words: bool) -> None:
        net = Transformer(cfg, None)
        self.layers = sum(cfg.layers // len(owners) for owner in owners if owner == 0)
        self.blocks = self.experts = self.rest = 0.0
        for name, p in net.named_parameters():
            block, matrix = name.startswith("blocks."), p.dim() > 1
            if block:
                stage = int(name.split(".")[1]) * len(owners) // cfg.layers
            else:
                stage = 0 if name.startswith(("embed", "positions")) else len(owners) - 1
            if owners[stage] != 0:
                continue
            cut = matrix and (block or (words and name.startswith(("embed", "head"))))
            size = p.numel() / (n["tensor"] if cut else 1)
            if ".experts." in name:
                self.experts += size / n["expert"]
            elif block:
                self.blocks += size
            else:
                self.rest += size

    @property
    def whole(self) -> float:
        return self.blocks + self.experts + self.rest


def knob(methods: list, name: str, key: str, default: object) -> object:
    """What a case says of a method."""
    return next((one[name].get(key, default) for one in methods if isinstance(one, dict) and name in one), default)


def owners_of(methods: list, size: int) -> list[int]:
    """Which place has which stage."""
    names = [next(iter(one)) if isinstance(one, dict) else one for one in methods]
    each = next((STAGES[name] for name in names if name in STAGES), 1) if size > 1 else 1
    if "zero_bubble" in names and knob(methods, "zero_bubble", "order", "v") == "v":
        return [*range(size), *reversed(range(size))]
    return [*range(size)] * each


def sent(sizes: dict, methods: list, about: dict, cfg: Config, rows: int, T: int, first: dict[int, list[Batch]]) -> float | None:
    """None where there is no formula: owners that visit whole matrices, and meshes whose axes send other than the sum of their
    parts. `first` are the micro-batches of the ranks that have the other experts, by their places."""
    if about.get("optimizer", "adamw") != "adamw" or {"adapter", "precision", "compile"} & about.keys():
        return None
    n = {axis: sizes.get(axis, 1) for axis in AXES}
    cut = "vocabulary_parallel" in methods or knob(methods, "megatron_tensor", "sequence", False)
    if (n["tensor"] > 1 and (n["pipeline"] > 1 or (cut and n["shard"] * n["context"] > 1))) or min(n["expert"], n["context"]) > 1:
        return None
    micro = about.get("micro", 1)
    micros = rows // (n["data"] * n["shard"] * n["expert"]) // micro
    owners = owners_of(methods, n["pipeline"])
    held, stage = Held(cfg, n, owners, "vocabulary_parallel" in methods), knob(methods, "zero", "stage", 3)
    t = T // n["context"]
    turns = held.layers * micros * micro  # a row of a micro-batch through a layer
    if every := knob(methods, "diloco", "every", 0):  # weights and both moments, and no gradients
        return 3 * copies(held, n) / every
    total = copies(held, n)
    total += shards(held, n, micros, stage, knob(methods, "three_level_partition", "inner", n["shard"]))
    total += context(methods, cfg, n, t, T, turns)
    total += bytescale(cfg, n["context"], t, first[0]) if "bytescale" in methods else 0.0
    total += token_ring(cfg, n["context"], t, first[0]) if "token_ring" in methods else 0.0
    total += tensor(methods, cfg, n["tensor"], turns, t)
    total += handed(owners) * micros * micro * t * cfg.width * FLOAT
    if cfg.tied and owners[0] != owners[-1]:
        total += cfg.vocab * cfg.width * FLOAT / n["shard"]
    if n["expert"] > 1:
        total += routed(cfg, n["expert"], held.layers, first)
    return total


def copies(held: Held, n: dict[str, int]) -> float:
    """The sum of gradients over copies, which FSDP2 has already divided over shards."""
    same = n["data"] * n["context"]
    found = 0.0
    for many, numbers in ((same * n["expert"], held.blocks + held.rest), (same, held.experts)):
        found += 2 * (many - 1) / many * FLOAT * numbers / n["shard"]
    return found


def shards(held: Held, n: dict[str, int], micros: int, stage: int, inner: int) -> float:
    """Weights that are gathered, and gradients that are divided."""
    s, layers = n["shard"], held.blocks + held.experts
    again = layers * (inner - 1) / inner / ((s - 1) / s) if s > 1 else 0.0
    gathers = held.whole if stage < 3 else micros * (layers + again) + (micros if n["pipeline"] == 1 else 1) * held.rest
    return (s - 1) / s * FLOAT * (gathers + (1 if stage == 1 else micros) * held.whole)


def context(methods: list, cfg: Config, n: dict[str, int], t: int, T: int, turns: int) -> float:
    """What attention exchanges."""
    c, width, key = n["context"], cfg.query_width / n["tensor"], cfg.key_width / n["tensor"]
    if c == 1 or not {"ulysses", "ring"} & {str(one) for one in methods}:
        return 0.0
    if "ulysses" in methods:
        return turns * t * (c - 1) / c * (2 * FLOAT * (2 * width + 2 * key) + c * NUMBER)
    return turns * (t * FLOAT * 2 * key * (2 * (c - 1) + c) + T * (c - 1) / c * NUMBER)


def bytescale(cfg: Config, n: int, t: int, micros: list[Batch]) -> float:
    """Keys and values of rank 0 to each rank that has later tokens of their document, seen through the window; nothing comes to the
    first keys of causal rows, so no gradients go back."""
    found = 0.0
    for micro in micros:
        for layer in range(cfg.layers):
            for row in micro.documents.tolist():
                reach = cfg.window(layer) or len(row)
                for rank in range(1, n):
                    later = range(rank * t, (rank + 1) * t)
                    seen = sum(any(row[i] == row[j] >= 0 and j - i < reach for j in later) for i in range(t))
                    found += seen * 2 * cfg.key_width * FLOAT
                found += t * (n - 1) * NUMBER
    return found


def token_ring(cfg: Config, n: int, t: int, micros: list[Batch]) -> float:
    """Queries go on, and what they saw goes home: rank 0 has the first keys, and knows of every stretch whether it sees them."""
    found = 0.0
    for micro in micros:
        rows, number = micro.inputs.shape[0] * t, micro.inputs.shape[0] * t * cfg.heads
        for layer in range(cfg.layers):
            helped = sum(Seen(micro.documents, t, asks, True, cfg.window(layer))(0) is not None for asks in range(1, n))
            found += FLOAT * (n - 1) * (rows * cfg.query_width + 2 * rows * cfg.query_width + 2 * number)  # queries; queries and gradients
            found += FLOAT * helped * (rows * cfg.query_width + number + rows * cfg.query_width)  # outputs; gradients of queries
            found += rows * n * (n - 1) / n * NUMBER  # documents
    return found


def tensor(methods: list, cfg: Config, k: int, turns: int, t: int) -> float:
    """Activations between matrices; with `sequence` those of all stretches at the end, and gradients of norms; what a cut vocabulary
    takes."""
    each = (k - 1) / k * t * cfg.width * FLOAT
    found = turns * 4 * 2 * each
    passes = turns / cfg.layers
    if knob(methods, "megatron_tensor", "sequence", False):
        found += passes * 2 * each + 2 * (k - 1) / k * 2 * cfg.layers * cfg.width * FLOAT
    if "vocabulary_parallel" in methods:
        found += passes * (2 * 2 * each + (k - 1) / k * k * 3 * t * FLOAT)
    return found


def handed(owners: list[int]) -> int:
    """How often rank 0 hands a micro-batch on: what leaves its stages, and the gradient of what entered them."""
    last = len(owners) - 1
    on = sum(owner == 0 and at < last and owners[at + 1] != 0 for at, owner in enumerate(owners))
    return on + sum(owner == 0 and at > 0 and owners[at - 1] != 0 for at, owner in enumerate(owners))


def routed(cfg: Config, n: int, layers: int, micros: dict[int, list[Batch]]) -> float:
    """Tokens of rank 0 that go to experts elsewhere and back, and those of others that come to its own: twice there, twice back. The
    model of one process says where they go."""
    net, found = Transformer(cfg, Rng((0, "init"))), 0.0
    for rank, own in micros.items():
        for micro in own:
            aux: dict = {}
            with torch.no_grad():
                net(micro.inputs, micro.positions, micro.documents, aux=aux)
            places = torch.cat([chosen.flatten() for _, chosen in aux["router"][:layers]]) * n // cfg.experts
            crossing = int((places != 0).sum()) if rank == 0 else int((places == 0).sum())
            found += crossing * 2 * cfg.width * FLOAT
            if rank == 0:
                found += layers * (n - 1) / n * cfg.experts * WORD
    return found

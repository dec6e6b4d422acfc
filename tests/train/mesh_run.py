"""The small run laid over a mesh, for tests and for the processes that they start: what each mesh leaves is compared with one process."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from small_run import shards
from torch import Tensor

from bloomery.core import catalog
from bloomery.core.errors import CheckFailed, Interrupted
from bloomery.core.log import Log
from bloomery.data.shards import Shards
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.batching.packed import Packed
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.schedule.wsd import Wsd
from bloomery.methods.view.causal import Causal
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.rewrite.adapters import attach
from bloomery.seams import Clock, Rng, Vocab
from bloomery.train.audit import Audit
from bloomery.train.batches import Feed
from bloomery.train.checkpoint import Checkpoints
from bloomery.train.loop import Training, gradients, train
from bloomery.train.mesh import ALONE, Mesh
from bloomery.train.metrics import MEASURED
from bloomery.train.sharded import placed
from bloomery.train.traffic import Traffic

VOCAB = Vocab(50, 0, 1, 2)
MODELS = {
    "plain": Config(50, 16, 2, 4, 2, 24, 16),
    "tied": Config(50, 16, 2, 4, 4, 24, 16, tied=True),
    "windows": Config(50, 16, 2, 4, 2, 24, 16, windows=(5, 0)),
    "experts": Config(50, 16, 2, 4, 2, 24, 16, experts=4, top=2, architecture="mixtral"),
}
STEPS, ROWS, T = 20, 4, 16
FLOAT, NUMBER = 4, 4  # bytes of a weight or an activation, and of a document's number
Case = tuple[dict, list, dict]  # sizes, methods of the axes, what else is not as usual
TWO: dict[str, Case] = {
    "data": ({"data": 2}, ["zero"], {}),
    "zero1": ({"shard": 2}, [{"zero": {"stage": 1}}], {}),
    "zero3": ({"shard": 2}, ["zero"], {"model": "tied"}),
    "ulysses": ({"context": 2}, ["ulysses"], {}),
    "ring": ({"context": 2}, ["ring"], {"model": "windows"}),
    "tensor": ({"tensor": 2}, ["megatron_tensor"], {}),
}
WIDE2: dict[str, Case] = {
    "data_muon": ({"data": 2}, ["zero"], {"optimizer": "muon", "micro": 2}),
    "data_experts": ({"data": 2}, ["zero"], {"model": "experts"}),
    "zero2": ({"shard": 2}, [{"zero": {"stage": 2}}], {}),
    "zero3_muon": ({"shard": 2}, ["zero"], {"optimizer": "muon"}),
    "zero3_experts": ({"shard": 2}, ["zero"], {"model": "experts"}),
    "ulysses_windows": ({"context": 2}, ["ulysses"], {"model": "windows"}),
    "ring_plain": ({"context": 2}, ["ring"], {}),
    "zero3_lora": ({"shard": 2}, ["zero"], {"adapter": {"lora": {"rank": 2}}, "rate": 1e-3}),
    "tensor_muon": ({"tensor": 2}, ["megatron_tensor"], {"optimizer": "muon"}),
    "tensor_tied": ({"tensor": 2}, ["megatron_tensor"], {"model": "tied"}),
}
FOUR: dict[str, Case] = {
    "data4": ({"data": 4}, ["zero"], {}),
    "shard4": ({"shard": 4}, ["zero"], {}),
    "data_shard": ({"data": 2, "shard": 2}, ["zero"], {}),
    "data_shard1": ({"data": 2, "shard": 2}, [{"zero": {"stage": 1}}], {}),
    "data_shard_muon": ({"data": 2, "shard": 2}, ["zero"], {"optimizer": "muon"}),
    "data_context": ({"data": 2, "context": 2}, ["zero", "ulysses"], {}),
    "shard_context": ({"shard": 2, "context": 2}, ["zero", "ring"], {}),
    "data_tensor": ({"data": 2, "tensor": 2}, ["zero", "megatron_tensor"], {}),
    "context_tensor": ({"context": 2, "tensor": 2}, ["ring", "megatron_tensor"], {}),
    "shard_tensor": ({"shard": 2, "tensor": 2}, ["zero", "megatron_tensor"], {}),
    "ring4": ({"context": 4}, ["ring"], {}),
}


def mesh_of(sizes: dict, methods: list, **more) -> Mesh:
    """A mesh with the methods of its axes; ALONE for {}."""
    if not sizes:
        return ALONE
    return Mesh(sizes, [catalog.build_method("parallel", one) for one in methods], **more)


def laid(folder: Path, mesh: Mesh, model: str = "plain", optimizer: str = "adamw", micro: int = 1, **changes) -> Training:
    """A run of 20 steps of 4 rows over a mesh; `folder` keeps what survives."""
    data = Shards(folder / "data")
    net, rng = Transformer(MODELS[model], Rng((0, "init"))), Rng((0, "t"))
    if adapter := changes.pop("adapter", None):
        attach(net, catalog.build_method("adapter", adapter), rng.child("adapter"))
    feed = Feed(data, Packed(T), Causal(), T, micro, rng.child("feed"), VOCAB)
    loss = changes.pop("loss", CrossEntropy(16))
    method, rest = catalog.build_method("optim", optimizer), AdamW()
    mover = placed(net, mesh, method, rng, 0.1, torch.float32, rest)
    own = folder / f"rank-{mesh.rank}"
    own.mkdir(exist_ok=True)
    run = Training(
        net, feed, loss, Autograd(), mover, Wsd(), 1e-2, STEPS * ROWS * T, ROWS * T, rng,
        Checkpoints(folder / "checkpoints", group=mesh.files if mesh.many else None), own / "curve.jsonl", Log(quiet=True), mesh=mesh,
        reads=True,
    )  # fmt: skip
    return replace(run, **changes)


def first_step(run: Training) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Whole gradients of step 1, unclipped, by name, and the bytes that this rank sends in it."""
    run.feed.part, run.feed.looks = run.mesh.rows, run.mesh.many and hasattr(run.loss, "look")
    clock = Clock(0, 0, run.batch, float(run.total))
    micros = [run.mesh.own(micro) for micro in run.feed.next(clock)]
    if run.backward.streams:
        run.optimizer.stream()
    with Traffic() as sent:
        gradients(replace(run, backward=Autograd(clip=0)), clock, micros, Audit(run.net, run.optimizer, {}))
    found = {name: g.clone() for name, g in run.optimizer.gradients().items()}
    with sent:
        run.optimizer.step(1e-3, 1)
    return found, dict(sent.bytes)


def outcome(folder: Path, mesh: Mesh, **about) -> dict:
    """Losses and norms of 20 steps, final weights, gradients of the first step, and bytes sent in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if mesh.first:
        shards(folder / "data")
    if mesh.many:
        dist.barrier()
    grads, sent = first_step(laid(folder, mesh, **about))
    run = laid(folder, mesh, **about)
    done = train(run)
    return {
        "curve": figures(run), "weights": {name: t.clone() for name, t in run.optimizer.weights().items()},
        "gradients": grads, "sent": sent, "audit": done.audit,
    }  # fmt: skip


def figures(run: Training) -> list[dict]:
    """The curve without what differs from run to run."""
    rows = [json.loads(line) for line in run.curve.read_text().splitlines()]
    return [{key: row[key] for key in row if key not in MEASURED} for row in rows]


def formula(case: Case) -> float | None:
    """Bytes that a rank has to send in a step; None where the method has no formula (owners that visit whole matrices)."""
    sizes, methods, about = case
    if about.get("optimizer", "adamw") != "adamw" or "adapter" in about:
        return None
    n = {axis: sizes.get(axis, 1) for axis in ("data", "context", "shard", "tensor")}
    cfg = MODELS[about.get("model", "plain")]
    net = Transformer(cfg, None)
    whole = sum(p.numel() for p in net.parameters())
    blocks = sum(p.numel() for p in net.blocks.parameters())
    cut = sum(p.numel() for name, p in net.named_parameters() if name.startswith("blocks.") and p.dim() > 1)
    held = whole - cut + cut / n["tensor"]
    rows = ROWS // (n["data"] * n["shard"])
    micro = about.get("micro", 1)
    micros, stage = rows // micro, next((one["zero"].get("stage", 3) for one in methods if isinstance(one, dict)), 3)
    copies = n["data"] * n["context"]
    sent = 2 * (copies - 1) / copies * FLOAT * held / n["shard"]
    if (s := n["shard"]) > 1:
        rest, layers = held - (blocks - cut + cut / n["tensor"]), blocks - cut + cut / n["tensor"]
        gathers = layers + rest if stage < 3 else micros * (2 * layers + rest)
        sent += (s - 1) / s * FLOAT * (gathers + (1 if stage == 1 else micros) * held)
    t, width, key = T // n["context"], cfg.query_width / n["tensor"], cfg.key_width / n["tensor"]
    if (c := n["context"]) > 1:
        if "ulysses" in methods:
            sent += cfg.layers * micros * micro * t * (c - 1) / c * (2 * FLOAT * (2 * width + 2 * key) + c * NUMBER)
        else:
            sent += cfg.layers * micros * micro * t * FLOAT * 2 * key * (2 * (c - 1) + c)
            sent += cfg.layers * micros * micro * T * (c - 1) / c * NUMBER
    if (k := n["tensor"]) > 1:
        sent += cfg.layers * micros * micro * 4 * 2 * (k - 1) / k * t * cfg.width * FLOAT
    return sent


def apart(one: dict, other: dict) -> dict[str, float]:
    """Largest relative differences of losses, gradient norms, gradients of the first step, and final weights."""

    def curves(key: str) -> float:
        return max(abs(a[key] / b[key] - 1) for a, b in zip(one["curve"], other["curve"], strict=True))

    def tensors(key: str) -> float:
        return max(float((one[key][name] - t).norm() / t.norm().clamp(min=1e-30)) for name, t in other[key].items())

    return {"loss": curves("loss"), "norm": curves("grad_norm"), "gradients": tensors("gradients"), "weights": tensors("weights")}


def compared(folder: Path, cases: list[Case]) -> list[dict]:
    """Each rank runs all cases; the first tells what differs from one process."""
    told = []
    for number, (sizes, methods, about) in enumerate(cases):
        mesh = mesh_of(sizes, methods)
        found = outcome(folder / str(number), mesh, **about)
        if mesh.first:
            alone = outcome(folder / f"{number}-alone", ALONE, **about)
            same = [row["tokens"] for row in found["curve"]] == [row["tokens"] for row in alone["curve"]]
            more = {"tokens": same, "audit": found["audit"] == alone["audit"], "sent": found["sent"]}
            told.append({**apart(found, alone), **more})
        dist.barrier()
    return told


USED = {
    "alone": ({}, []), "data": ({"data": 2}, ["zero"]), "shard": ({"shard": 2}, ["zero"]), "tensor": ({"tensor": 2}, ["megatron_tensor"]),
    **{name: FOUR[name][:2] for name in ("shard4", "data_shard", "data_tensor")},
}  # fmt: skip


def part(folder: Path, mesh: str, stop: int) -> None:
    """A run on a mesh that is asked to stop after so many steps (0: never); its figures are added to a file."""
    run = laid(folder, mesh_of(*USED[mesh]))
    steps: list[int] = []
    run.stopping = lambda: steps.append(1) or len(steps) == stop
    with suppress(Interrupted):
        train(run)
    if run.mesh.first:
        with open(folder / "figures.jsonl", "a") as file:
            done = len((folder / "figures.jsonl").read_text().splitlines())
            file.writelines(json.dumps(row) + "\n" for row in figures(run) if row["step"] > done)


def resharded(folder: Path, ways: list[list[str]]) -> list[float]:
    """For each way, a run that is stopped at half on one mesh and goes on on another: the largest relative difference of a loss."""
    told = []
    for number, way in enumerate(ways):
        here = folder / f"way-{number}"
        here.mkdir(exist_ok=True)
        if dist.get_rank() == 0:
            shards(here / "data")
        dist.barrier()
        for mesh, stop in zip(way, (STEPS // 2, 0), strict=True):
            if mesh != "alone" or dist.get_rank() == 0:
                part(here, mesh, stop)
            dist.barrier()
        found = [json.loads(line) for line in (here / "figures.jsonl").read_text().splitlines()]
        told.append(undisturbed(folder, found))
    return told


def undisturbed(folder: Path, found: list[dict]) -> float:
    """The largest relative difference of a loss from the run of one process that nothing has befallen; infinite where a step is missing."""
    place = folder / f"undisturbed-{os.getpid()}"
    if not place.exists():
        shards(place / "data")
    alone = laid(place, ALONE)
    train(alone)
    wanted = figures(alone)
    if [row["step"] for row in found] != [row["step"] for row in wanted]:
        return float("inf")
    return max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(found, wanted, strict=True))


def corrupted(folder: Path) -> str:
    """Two copies, one of which has a weight of its own after some steps: what the run says of it."""
    if dist.get_rank() == 0:
        shards(folder / "data")
    dist.barrier()
    run = laid(folder, mesh_of({"data": 2}, ["zero"]), save_steps=5)

    def before(clock: Clock) -> None:
        if clock.step == 7 and run.mesh.rank == 1:
            run.optimizer.master[3] += 1e-6

    try:
        train(replace(run, before_step=before))
    except CheckFailed as said:
        return str(said)
    return ""


def everything(folder: str, cases: str, ways: str) -> None:
    """All that is asked of processes in one launch: the first prints it."""
    place = Path(folder)
    told = {"cases": compared(place, json.loads(cases)), "ways": resharded(place, json.loads(ways))}
    if dist.get_world_size() == 2:
        (place / "corrupted").mkdir(exist_ok=True)
        told["corrupted"] = corrupted(place / "corrupted")
    if dist.get_rank() == 0:
        print("TOLD" + json.dumps(told))


def struck(folder: str, mesh: str, how: str) -> None:
    """A run that saves after every step, in which something befalls rank 1 at step 9. It waits for 4 seconds."""
    run = laid(Path(folder), mesh_of(*USED[mesh], patience=4.0), save_steps=1)

    def before(clock: Clock) -> None:
        if clock.step == 8 and run.mesh.rank == 1:
            time.sleep(15) if how == "slow" else os.kill(os.getpid(), getattr(signal, how))

    train(replace(run, before_step=before))


def going_on(folder: str, mesh: str) -> None:
    """The run that was struck, once more."""
    part(Path(folder), mesh, 0)

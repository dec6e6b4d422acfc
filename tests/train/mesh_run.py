"""The small run laid over a mesh, for tests and for the processes that they start: what each mesh leaves is compared with one process."""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import mesh_bytes
import numpy as np
import torch
import torch.distributed as dist
from mesh_cases import FOUR, MODELS, ROWS, STEPS, Case, T
from small_run import shards
from torch import Tensor

from bloomery.core import catalog
from bloomery.core.errors import CheckFailed, Interrupted
from bloomery.core.log import Log
from bloomery.core.walk import is_full
from bloomery.data.shards import Shards
from bloomery.infer.score import log_probabilities
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.batching.packed import Packed
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.schedule.wsd import Wsd
from bloomery.methods.view.causal import Causal
from bloomery.nn.model import Transformer
from bloomery.nn.pipeline import Asked
from bloomery.rewrite.adapters import attach
from bloomery.seams import Clock, Rng, Vocab
from bloomery.train.audit import Audit
from bloomery.train.batches import Feed
from bloomery.train.checkpoint import Checkpoints
from bloomery.train.compiled import compile_blocks
from bloomery.train.loop import Training, gradients, train
from bloomery.train.mesh import ALONE, Mesh
from bloomery.train.metrics import MEASURED
from bloomery.train.sharded import placed
from bloomery.train.traffic import Traffic

VOCAB = Vocab(50, 0, 1, 2)


def mesh_of(sizes: dict, methods: list, **more) -> Mesh:
    """A mesh with the methods of its axes; ALONE for {}."""
    if not sizes:
        return ALONE
    return Mesh(sizes, [catalog.build_method("parallel", one) for one in methods], **more)


def laid(
    folder: Path, mesh: Mesh, model: str = "plain", optimizer: str = "adamw", micro: int = 1, precision: str = "float32", **changes
) -> Training:
    """A run of 20 steps of 4 rows over a mesh; `folder` keeps what survives."""
    data = Shards(folder / "data")
    net, rng = Transformer(MODELS[model], Rng((0, "init"))), Rng((0, "t"))
    if adapter := changes.pop("adapter", None):
        attach(net, catalog.build_method("adapter", adapter), rng.child("adapter"))
    feed = Feed(data, Packed(T), Causal(), T, micro, rng.child("feed"), VOCAB)
    loss = changes.pop("loss", CrossEntropy(16))
    method, rest = catalog.build_method("optim", optimizer), AdamW()
    own = folder / f"rank-{mesh.rank}"
    own.mkdir(exist_ok=True)
    home = next((one for one in mesh.methods if hasattr(one, "pieces")), None)
    states = Path(tempfile.mkdtemp(dir=own)) if home else None
    mover = placed(net, mesh, method, rng, 0.1, getattr(torch, precision), rest, home=home, folder=states)
    if changes.pop("compile", False):
        compile_blocks(net, feed, loss, Log(quiet=True), mesh=mesh)
    run = Training(
        net, feed, loss, Autograd(), mover, Wsd(), 1e-2, STEPS * ROWS * T, ROWS * T, rng,
        Checkpoints(folder / "checkpoints", group=mesh.files if mesh.many else None), own / "curve.jsonl", Log(quiet=True), mesh=mesh,
        reads=True,
    )  # fmt: skip
    return replace(run, **changes)


def first_step(run: Training, counted: bool = True) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Whole gradients of step 1, unclipped, by name, and the bytes that this rank sends in it: what counts them looks at every
    operation, which compiled blocks do not have."""
    run.feed.part, run.feed.looks = run.mesh.rows, run.mesh.many and hasattr(run.loss, "look")
    clock = Clock(0, 0, run.batch, float(run.total))
    micros = [run.mesh.own(micro) for micro in run.feed.next(clock)]
    if run.backward.streams:
        run.optimizer.stream()
    sent = Traffic()
    with sent if counted else nullcontext():
        gradients(replace(run, backward=Autograd(clip=0)), clock, micros, Audit(run.net, run.optimizer, {}))
    found = {name: g.clone() for name, g in run.optimizer.gradients().items()}
    with sent:
        run.optimizer.step(1e-3, 1)
        run.mesh.after(run.optimizer, 1, last=False)
    return found, dict(sent.bytes)


def outcome(folder: Path, mesh: Mesh, **about) -> dict:
    """Losses and norms of 20 steps, final weights, gradients of the first step, and bytes sent in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if mesh.first:
        shards(folder / "data")
    if mesh.many:
        dist.barrier()
    grads, sent = first_step(laid(folder, mesh, **about), counted=not about.get("compile"))
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
    """Bytes that rank 0 has to send in step 1; None where a method has no formula."""
    sizes, methods, about = case
    cfg, first = MODELS[about.get("model", "plain")], {}
    experts = sizes.get("expert", 1)
    if experts > 1 or {"token_ring", "bytescale"} & {str(one) for one in methods}:
        with tempfile.TemporaryDirectory() as folder:
            shards(Path(folder) / "data")
            for at in range(experts):
                run = laid(Path(folder), ALONE, model=about.get("model", "plain"))
                run.feed.part = (at, sizes.get("data", 1) * sizes.get("shard", 1) * experts)
                first[at] = run.feed.next(Clock(0, 0, run.batch, None))
    return mesh_bytes.sent(sizes, methods, about, cfg, ROWS, T, first)


def apart(one: dict, other: dict) -> dict[str, float]:
    """Largest relative differences of losses, gradient norms, gradients of the first step, and final weights."""

    def curves(key: str) -> float:
        return max(abs(a[key] / b[key] - 1) for a, b in zip(one["curve"], other["curve"], strict=True))

    def tensors(key: str) -> float:
        return max(float((one[key][name] - t).norm() / t.norm().clamp(min=1e-30)) for name, t in other[key].items())

    return {"loss": curves("loss"), "norm": curves("grad_norm"), "gradients": tensors("gradients"), "weights": tensors("weights")}


def alike(about: dict) -> str:
    """What one process is told of a case: its blocks are never compiled."""
    return json.dumps({key: value for key, value in about.items() if key != "compile"})


def compared(folder: Path, cases: list[Case]) -> list[dict]:
    """Each rank runs all cases; the first tells what differs from one process, of which the ranks have divided the runs."""
    told, kinds = [], sorted({alike(about) for _, _, about in cases})
    for kind in kinds[dist.get_rank() :: dist.get_world_size()]:
        torch.save(outcome(folder / f"alone-{kinds.index(kind)}", ALONE, **json.loads(kind)), folder / f"alone-{kinds.index(kind)}.pt")
    dist.barrier()
    for number, (sizes, methods, about) in enumerate(cases):
        mesh = mesh_of(sizes, methods, precision=getattr(torch, about.get("precision", "float32")))
        found = outcome(folder / str(number), mesh, **about)
        if mesh.first:
            alone = torch.load(folder / f"alone-{kinds.index(alike(about))}.pt")
            same = [row["tokens"] for row in found["curve"]] == [row["tokens"] for row in alone["curve"]]
            more = {"tokens": same, "audit": found["audit"] == alone["audit"], "sent": found["sent"]}
            told.append({**apart(found, alone), **more})
        dist.barrier()
    return told


USED = {
    "alone": ({}, []), "data": ({"data": 2}, ["zero"]), "shard": ({"shard": 2}, ["zero"]), "tensor": ({"tensor": 2}, ["megatron_tensor"]),
    "pipeline": ({"pipeline": 2}, ["one_f_one_b"]),
    **{name: FOUR[name][:2] for name in ("shard4", "data_shard", "data_tensor", "pipeline_shard")},
}  # fmt: skip


def part(folder: Path, mesh: str, stop: int) -> None:
    """A run on a mesh that is asked to stop after so many steps (0: never); its figures are added to a file."""
    run = laid(folder, mesh_of(*USED[mesh]))
    steps: list[int] = []
    run.stopping, run.log.say = lambda: steps.append(1) or len(steps) == stop, print
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


def asked() -> float:
    """How far log-probabilities that ranks of a pipe ask for together are from those of one process: the largest difference."""
    texts, nets = [[(7 * i + j) % 50 for j in range(20)] for i in range(5)], [Transformer(MODELS["tied"], Rng((0, "init"))) for _ in "12"]
    mesh = mesh_of({"pipeline": 2}, ["one_f_one_b"])
    placed(nets[1], mesh, AdamW(), Rng((0,)), 0.0, torch.float32)
    alone, told = (torch.from_numpy(np.concatenate(log_probabilities(net, texts))) for net in (nets[0], Asked(mesh.pipe)))
    return float((mesh.ended(told) - alone).abs().max())


def everything(folder: str, cases: str, ways: str) -> None:
    """All that is asked of processes in one launch: the first prints it."""
    place = Path(folder)
    told = {"cases": compared(place, json.loads(cases)), "ways": resharded(place, json.loads(ways))}
    if dist.get_world_size() == 2:
        (place / "corrupted").mkdir(exist_ok=True)
        told["corrupted"], told["asked"] = corrupted(place / "corrupted"), asked()
    if dist.get_rank() == 0:
        print("TOLD" + json.dumps(told))


def struck(folder: str, mesh: str, how: str) -> None:
    """A run that saves after every third step, in which something befalls rank 1 at step 9. A broken connection is seen at once; for one
    that stays silent the others wait from then on for 6 seconds."""
    run = laid(Path(folder), mesh_of(*USED[mesh]), save_steps=3)

    def before(clock: Clock) -> None:
        if clock.step == 8:
            run.checkpoints.wait()
            dist.barrier()  # all have written
            if how != "SIGKILL":
                run.mesh.wait(6.0)
        if clock.step == 8 and run.mesh.rank == 1:
            time.sleep(3000) if how == "slow" else os.kill(os.getpid(), getattr(signal, how))

    train(replace(run, before_step=before))


def filled(folder: str, mesh: str) -> None:
    """A run that saves after every step; at step 9 rank 1 may write no longer files than it has. Tells what each rank ends with."""
    run = laid(Path(folder), mesh_of(*USED[mesh]), save_steps=1)

    def before(clock: Clock) -> None:
        if clock.step == 8 and run.mesh.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))

    try:
        train(replace(run, before_step=before))
    except Exception as wrong:
        print("FULL", is_full(wrong, 1 << 40), repr(wrong))
    os._exit(0)  # without a farewell to the others


def going_on(folder: str, mesh: str) -> None:
    """The run that was struck, once more."""
    part(Path(folder), mesh, 0)

"""One training step of a small model on a mesh of processes, compared with the same step in this one, and the bytes that it sends.

`python -m bloomery.lab.meshed FOLDER RANK PROCESSES CASE` is one of the processes that `run` starts; they meet in FOLDER over gloo.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from bloomery.core import catalog
from bloomery.core.rng import torch_rng
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Clock, Rng
from bloomery.train.audit import Audit
from bloomery.train.loop import gradients
from bloomery.train.mesh import ALONE, Mesh
from bloomery.train.sharded import placed
from bloomery.train.traffic import Traffic

CFG = Config(64, 32, 2, 4, 2, 48, 16, tied=False)
ROWS, FLOAT, NUMBER = 4, 4, 4  # rows of the step; bytes of a weight or an activation, and of a document's number
STEPS = 10


def micros(seed: int, part: tuple[int, int]) -> list[Batch]:
    """Micro-batches of one row, two documents each: those of part `part[0]` of `part[1]` of the step's rows."""
    ids = torch.randint(0, CFG.vocab, (ROWS, CFG.context + 1), generator=torch_rng(Rng((seed, "meshed"))))
    place = torch.arange(CFG.context).expand(ROWS, CFG.context)
    second = (place >= CFG.context // 2).long()
    whole = Batch(ids[:, :-1], ids[:, 1:], torch.ones(ROWS, CFG.context), place - second * (CFG.context // 2), second)
    own = ROWS // part[1]
    return [
        Batch(**{name: t[row : row + 1].contiguous() for name, t in vars(whole).items()})
        for row in range(part[0] * own, (part[0] + 1) * own)
    ]


def trained(mesh: Mesh, seed: int) -> dict[str, Any]:
    """Gradients of the first of some steps, losses of all, the bytes that the first sends, and how many parameters this rank holds."""
    rng = Rng((seed, "meshed"))
    net = Transformer(CFG, rng.child("init"))
    mover = placed(net, mesh, AdamW(), rng, 0.1, torch.float32)
    run = SimpleNamespace(
        rng=rng, steps_before=0, feed=SimpleNamespace(whole=[], names=list), mesh=mesh, loss=CrossEntropy(), net=net, roles={},
        watch=nullcontext, backward=Autograd(clip=0.0), optimizer=mover,
    )  # fmt: skip
    audit, losses, sent, found = Audit(net, mover, {}), [], [], {}
    if run.backward.streams:
        mover.stream()
    for step in range(STEPS):
        own = [mesh.own(micro) for micro in micros(seed + step % 3, mesh.rows)]
        with Traffic() as counted:
            losses.append(gradients(run, Clock(step, 0, ROWS * CFG.context, None), own, audit)["loss"])
        found = found or {name: g.clone() for name, g in mover.gradients().items()}
        with counted:
            mover.step(1e-2, step + 1)
            mesh.after(mover, step + 1, last=step + 1 == STEPS)
        sent.append(counted.total)
    held = sum(t.numel() for t in mover.masters().values())
    return {"gradients": found, "losses": losses, "sent": sent[0], "total": sum(sent), "held": held}


def compared(case: dict[str, Any]) -> dict[str, Any]:
    """One process's part of `run`."""
    mesh = Mesh(case["sizes"], [catalog.build_method("parallel", one) for one in case["methods"]])
    found, alone = trained(mesh, case["seed"]), trained(ALONE, case["seed"])
    worst = max(float((found["gradients"][name] - g).norm() / g.norm()) for name, g in alone["gradients"].items())
    losses = max(abs(a / b - 1) for a, b in zip(found["losses"], alone["losses"], strict=True))
    told = {name: found[name] for name in ("sent", "total", "held")}
    return {
        "gradient": worst,
        "loss": losses,
        "last": found["losses"][-1],
        "alone": alone["losses"][-1],
        "first": alone["losses"][0],
        **told,
    }


def moved(home: Any, seed: int = 0) -> dict[str, Any]:
    """Steps in bfloat16 with states where a method says, and with the plain driver: numbers that differ, and bytes by place."""
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        for where in (None, catalog.build_method("parallel", home)):
            rng = Rng((seed, "meshed"))
            net = Transformer(CFG, rng.child("init"))
            mover = placed(net, ALONE, AdamW(), rng, 0.1, torch.bfloat16, home=where, folder=Path(folder))
            for step in range(STEPS):
                draw = torch_rng(rng.child("gradient", step))
                for p in net.parameters():
                    p.grad = torch.randn(p.shape, generator=draw).to(p.dtype)
                mover.collect()
                mover.step(1e-2, step + 1)
            ends.append(({name: t.clone() for name, t in mover.tensors().items()}, mover))
    (wanted, _), (found, mover) = ends
    differ = sum(int((found[name] != t).sum()) for name, t in wanted.items())
    return {"differ": differ, "places": mover.places(), "numbers": len(mover.master)}


def parameters() -> tuple[int, int, int]:
    """Numbers of the blocks, of their matrices, and of the rest."""
    net = Transformer(CFG, None)
    blocks = sum(p.numel() for p in net.blocks.parameters())
    matrices = sum(p.numel() for p in net.blocks.parameters() if p.dim() > 1)
    return blocks, matrices, sum(p.numel() for p in net.parameters()) - blocks


def run(folder: Path, sizes: dict[str, int], methods: list, seed: int = 0) -> dict[str, Any]:
    """What the first of the processes of a mesh of two finds."""
    case = json.dumps({"sizes": sizes, "methods": methods, "seed": seed})
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    call = [sys.executable, "-m", "bloomery.lab.meshed", str(folder)]
    started = [subprocess.Popen([*call, str(rank), "2", case], stdout=subprocess.PIPE, text=True, env=env) for rank in range(2)]
    try:
        said = [one.communicate(timeout=600)[0] for one in started]
        failed = any(one.returncode for one in started)
    finally:
        for one in started:
            one.kill()
            one.wait()
    if failed:
        raise RuntimeError(f"a process of the mesh {sizes} failed")
    return json.loads(said[0])


def main(folder: str, rank: int, processes: int, case: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{Path(folder).absolute()}/meeting", rank=rank, world_size=processes)
    print(json.dumps(compared(json.loads(case))), flush=True)
    dist.barrier()  # nobody leaves while another still listens to him
    os._exit(0)  # gloo's threads now and then abort a process that takes itself down in order


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

"""Several steps of lab/meshed.py in one launch of as many processes as their mesh takes: other models too, and what a rank holds and sends.

`python -m bloomery.lab.launched FOLDER RANK PROCESSES CASES` is one of the processes that `launched` starts; they meet in FOLDER over gloo.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloomery.core import catalog
from bloomery.lab import meshed
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.num.clipping import local
from bloomery.seams import Rng
from bloomery.train.mesh import ALONE, Mesh
from bloomery.train.traffic import Traffic

EXPERTS = replace(meshed.CFG, experts=4, top=2, architecture="mixtral")
WORD = 8  # bytes of a count of tokens


class Watched(Mesh):
    """Notes of every step but the first what this rank holds within it, in bytes, and what it sends among how many ranks.

    `between` are the blocks' weights between the two passes; `weights`, `gradients` and `states` (with the masters) are those of the moment
    when the last of several micro-batches begins.
    """

    def __init__(self, *laid: Any) -> None:
        super().__init__(*laid)
        self.held: dict[str, int] = {}
        self.among: dict[int, int] = {}
        self.sent, self.begun, self.mover = Traffic(), Counter(), None

    def before(self, net: nn.Module, number: int, of: int) -> None:
        """A micro-batch begins."""
        if number == 0:
            self.begun = self.sent.among.copy()
            if self.mover is None:
                net.register_forward_hook(lambda *_: self.held.update(between=size(net.blocks.parameters())))
        if self.mover is not None and self.cuts and number == of - 1 > 0:
            grads = {id(p): p.grad for p in (*net.parameters(), *self.mover.parameters.values())}
            states = size(self.mover.masters().values()) + self.mover.state_bytes()
            self.held |= {"weights": size(net.parameters()), "gradients": size(grads.values()), "states": states}
        super().before(net, number, of)

    def after(self, mover: Any, step: int, last: bool) -> None:
        """A step ends."""
        super().after(mover, step, last)
        self.mover, self.among = mover, dict(self.sent.among - self.begun)


def size(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of what is there."""
    return sum(local(t).numel() * t.element_size() for t in tensors if t is not None)


def model(seed: int, cfg: Config) -> Transformer:
    """With the weights that steps of this seed begin with."""
    return Transformer(cfg, Rng((seed, "meshed")).child("init"))


def compared(case: dict[str, Any]) -> dict[str, Any]:
    """One process's part of a case: what differs from one process, what is sent in the first step, and what `Watched` notes."""
    usual = meshed.CFG
    meshed.CFG = EXPERTS if case["experts"] else usual  # what `trained` builds
    mesh = Watched(case["sizes"], [catalog.build_method("parallel", one) for one in case["methods"]])
    with mesh.sent:
        found = meshed.trained(mesh, case["seed"])
    alone = meshed.trained(ALONE, case["seed"])
    meshed.CFG = usual
    worst = max(float((found["gradients"][name] - g).norm() / g.norm()) for name, g in alone["gradients"].items())
    losses = max(abs(a / b - 1) for a, b in zip(found["losses"], alone["losses"], strict=True))
    noted = {"held": found["held"], "bytes": mesh.held, "among": {str(ranks): sent for ranks, sent in mesh.among.items()}}
    return {"gradient": worst, "loss": losses, "sent": found["sent"], **noted}


def launched(sizes: dict[str, int], cases: list[tuple[list, int]], experts: bool = False) -> list[dict[str, Any]]:
    """What the first of the processes of a mesh finds of each case, (methods, seed)."""
    asked = json.dumps([{"sizes": sizes, "methods": methods, "seed": seed, "experts": experts} for methods, seed in cases])
    env, many = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, math.prod(sizes.values())
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "bloomery.lab.launched", folder]
        started = [
            subprocess.Popen([*call, str(rank), str(many), asked], stdout=subprocess.PIPE, text=True, env=env) for rank in range(many)
        ]
        try:
            said = [one.communicate(timeout=3000)[0] for one in started]
            failed = any(one.returncode for one in started)
        finally:
            for one in started:
                one.kill()
                one.wait()
    if failed:
        raise RuntimeError(f"a process of the mesh {sizes} failed")
    return json.loads(said[0])


def main(folder: str, rank: int, processes: int, cases: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{Path(folder).absolute()}/meeting", rank=rank, world_size=processes)
    print(json.dumps([compared(case) for case in json.loads(cases)]), flush=True)
    dist.barrier()  # nobody leaves while another still listens to him
    os._exit(0)  # gloo's threads now and then abort a process that takes itself down in order


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

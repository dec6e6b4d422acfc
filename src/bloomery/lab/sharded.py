"""A model cut over processes as a plan says, with a loss and a gradient to compare with those of the whole model.

`python -m bloomery.lab.sharded FOLDER RANK PROCESSES` is one of the processes that `run` starts; they meet in FOLDER over gloo.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.methods.planner.redco import Redco
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

SHAPE = {"vocab": 64, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "context": 16, "tied": False}
COUNTED = {"forward": 0, "backward": 0}  # all-reduces of this process


class Sum(torch.autograd.Function):
    """Adds up over the processes; the gradient is everybody's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        COUNTED["forward"] += 1
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Copy(torch.autograd.Function):
    """What all processes have alike goes its ways; gradients are added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        COUNTED["backward"] += 1
        total = g.contiguous()
        dist.all_reduce(total)
        return total


class Gather(torch.autograd.Function):
    """Lays the processes' columns side by side; the gradient is that of the own ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.columns = x.shape[-1]
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.narrow(-1, dist.get_rank() * ctx.columns, ctx.columns)


class Cut(nn.Module):
    """A linear or an embedding of which this process has a part."""

    def __init__(self, weight: Tensor, dim: int, table: bool = False, gather: bool = False) -> None:
        super().__init__()
        self.weight, self.dim, self.table, self.gather = nn.Parameter(weight), dim, table, gather

    def forward(self, x: Tensor) -> Tensor:
        if self.table:
            own = x - dist.get_rank() * len(self.weight)
            here = (own >= 0) & (own < len(self.weight))
            return Sum.apply(F.embedding(own.where(here, 0), self.weight) * here[..., None])
        if self.dim == 1:
            return Sum.apply(F.linear(x, self.weight))
        y = F.linear(Copy.apply(x), self.weight)
        return Gather.apply(y) if self.gather else y


def model() -> Transformer:
    """The same weights in every process."""
    net = Transformer(Config(**SHAPE), Rng((0, "sharded")))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else None
    return net


def job_of(net: Transformer) -> dict[str, Any]:
    """What a planner is told of one of our models."""
    cfg, fused = net.cfg, {}
    for i in range(cfg.layers):
        fused[f"blocks.{i}.mixer.qkv.weight"] = (cfg.query_width, cfg.key_width, cfg.key_width)
        fused[f"blocks.{i}.mlp.gate_up.weight"] = (cfg.ffn, cfg.ffn)
    return {"parameters": {name: tuple(p.shape) for name, p in net.named_parameters()}, "fused": fused, "heads": (cfg.heads, cfg.kv_heads)}


def own(t: Tensor, dim: int, parts: tuple[int, ...], rank: int, processes: int) -> Tensor:
    """A process's share of a matrix: of each of its parts in turn."""
    split = t.split(parts, dim) if parts else (t,)
    return torch.cat([one.chunk(processes, dim)[rank] for one in split], dim).detach().clone()


def shard(net: Transformer, job: Mapping[str, Any], plan: Mapping[str, Any], rank: int, processes: int) -> None:
    """Leaves of every matrix the part that a plan gives to one process."""
    for name, dim in plan["shard"].items():
        if dim is None:
            continue
        module = name.removesuffix(".weight")
        weight = own(net.get_parameter(name), dim, job["fused"].get(name, ()), rank, processes)
        net.set_submodule(module, Cut(weight, dim, module in plan["all_reduces"], name in plan["gathers"]))
    for block in net.blocks:
        if isinstance(block.mixer.qkv, Cut):
            block.mixer.heads //= processes
            block.mixer.kv_heads //= processes


def loss_of(net: Transformer) -> Tensor:
    """The loss on fixed tokens, with its gradients."""
    tokens = torch.randint(0, SHAPE["vocab"], (3, SHAPE["context"]), generator=torch.Generator().manual_seed(7))
    loss = F.cross_entropy(net.logits(net(tokens[:, :-1])).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    return loss.detach()


def compared(rank: int, processes: int) -> dict[str, Any]:
    """One process's part of `run`."""
    whole, cut = model(), model()
    job = job_of(cut)
    plan = Redco().plan(job, {"tensor": processes}, None)
    shard(cut, job, plan, rank, processes)
    losses = [float(loss_of(one)) for one in (whole, cut)]
    worst = 0.0
    for name, p in cut.named_parameters():
        dim, g = plan["shard"][name], whole.get_parameter(name).grad
        g = g if dim is None else own(g, dim, job["fused"].get(name, ()), rank, processes)
        worst = max(worst, float((p.grad - g).norm() / g.norm()))
    numbers = sum(p.numel() for p in cut.parameters())
    return {
        "loss": losses[1], "whole": losses[0], "gradient": worst, **COUNTED, "planned": sum(plan["all_reduces"].values()),
        "numbers": numbers, "planned_numbers": plan["numbers"], "gathers": len(plan["gathers"]),
    }  # fmt: skip


def run(folder: Path, processes: int = 2) -> list[dict[str, Any]]:
    """Of each process: the loss of the cut and of the whole model, the largest relative difference of a gradient, all-reduces made."""
    call = [sys.executable, "-m", "bloomery.lab.sharded", str(folder)]
    started = [subprocess.Popen([*call, str(rank), str(processes)], stdout=subprocess.PIPE, text=True) for rank in range(processes)]
    try:
        said = [one.communicate(timeout=600)[0] for one in started]
        failed = any(one.returncode for one in started)
    finally:
        for one in started:
            one.kill()
            one.wait()
    if failed:
        raise RuntimeError("a process of the cut model failed")
    return [json.loads(text) for text in said]


def main(folder: str, rank: int, processes: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{Path(folder).absolute()}/meeting", rank=rank, world_size=processes)
    print(json.dumps(compared(rank, processes)), flush=True)
    dist.barrier()  # nobody leaves while another still listens to him
    os._exit(0)  # gloo's threads now and then abort a process that takes itself down in order


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

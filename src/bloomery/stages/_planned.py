"""`mesh: auto`: what a planner takes for the processes that were started, from the speeds of their machine and of its links."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.machine import Machine, memory_free, remembered
from bloomery.core.mesh import AXES, written
from bloomery.core.ranks import here, neighbours
from bloomery.num.clusters import ACCELERATORS, Cluster

NEAR = 0.1  # of the best prediction: as good, for no prediction is more exact than that
NUMBERS = 1 << 20  # that are summed to measure a link
USUAL = Machine("", 1, 0, False, {}, 1e10)  # where nothing is measured yet
LINK, WAIT = 1e9, 3e-4  # bytes a second between processes of a machine, and seconds until a collective of theirs begins, likewise

Able = Callable[[Mapping[str, int]], str]


def demand(stage: Any) -> None:
    """BadInput for a planner that chooses no mesh."""
    if stage.mesh == "auto" and not catalog.attribute("planner", stage.planner, "meshes"):
        raise BadInput(f"planner: {next(iter(catalog.spec(stage.planner)))} chooses no mesh; name ranked, flexsp or holmes")


def chosen(stage: Any, cfg: Any, row: int, able: Able, on: Cluster, measured: Mapping[str, float]) -> tuple[dict[str, int], float | None]:
    """The mesh and the predicted seconds of a step: of those as good as the best, the one whose ranks hold most of the model whole.

    Where none is predicted to fit, all ranks are copies, as far as the planner knows nothing better, and there is no prediction.
    """
    job = {"config": cfg, "rows": max(1, stage.batch // row), "context": row, "axes": AXES, "chunks": 1}
    job |= {"able": able, "stage": zero(stage), "again": again(stage)}
    found = stage.planner.plan(job, vars(on), measured)["meshes"]
    if not found:
        return {"data": on.devices}, None
    near = [one for one in found if one["seconds"] <= (1 + NEAR) * found[0]["seconds"]]
    best = min(near, key=lambda one: (cutting(one["sizes"]), one["seconds"]))
    return {axis: size for axis, size in best["sizes"].items() if size > 1}, best["seconds"]


def cutting(sizes: Mapping[str, int]) -> tuple[int, int]:
    """How many axes other than data there are, and how far they cut."""
    others = [size for axis, size in sizes.items() if axis != "data" and size > 1]
    return len(others), sum(others)


def zero(stage: Any) -> int:
    """The stage of ZeRO that the recipe asks for."""
    found = [one for one in stage.parallel if "shard" in getattr(one, "axes", ())]
    return getattr(found[0], "stage", 3) if found else 3


def again(stage: Any) -> bool:
    """Whether blocks are computed twice."""
    saved = getattr(stage, "saved", None)
    return saved is not None and hasattr(saved, "again")


def cluster(mode: Mapping[str, Any], machine: Machine = USUAL, processes: int = 0) -> Cluster:
    """The machines of this launch, or of so many processes, as far as they are known: torchrun says how many each has."""
    size = processes or here().size
    local = neighbours() or size
    nodes, local = (size // local, local) if size % local == 0 else (1, size)
    if "device" in mode:
        import torch

        from bloomery.train.device import peak_flops

        gpu = next((one for name, one in ACCELERATORS.items() if name in torch.cuda.get_device_name().lower()), ACCELERATORS["h100"])
        memory, flops = torch.cuda.mem_get_info()[0], peak_flops(mode["device"], mode["precision"])
        return Cluster(nodes, local, gpu.link, gpu.network, memory, flops, gpu.bandwidth, reached=0.8)
    flops = machine.matmul_flops.get(mode["precision"]) or 1e11  # of all its cores, which the processes share
    share = memory_free() / local, flops / local, (machine.bandwidth or 1e10) / local
    return Cluster(nodes, local, LINK, LINK, *share, wait=WAIT, hides=0.0, reached=1.0)


def measured(mode: Mapping[str, Any], on: Cluster) -> dict[str, float]:
    """Bytes a second that a process sends while all sum numbers, the best of three: all processes ask together."""
    import torch
    import torch.distributed as dist

    from bloomery.num.clusters import SHARE

    size, numbers = dist.get_world_size(), torch.zeros(NUMBERS, device=mode.get("device", "cpu"))
    took = []
    for _ in range(3):
        began = time.perf_counter()
        dist.all_reduce(numbers)
        float(numbers[0])
        took.append(time.perf_counter() - began)
    rate = 2 * (size - 1) / size * 4 * NUMBERS / min(took) / SHARE
    return {"inter" if on.nodes > 1 else "intra": rate}


def agreed(stage: Any, cfg: Any, row: int, able: Able, job: Any) -> dict[str, int]:
    """The mesh on which all processes of a launch train: the first one chooses."""
    import torch
    import torch.distributed as dist

    mode = stage.mode()
    links = measured(mode, cluster(mode))
    told = torch.zeros(len(AXES), dtype=torch.int64)
    if job.ranks.first:
        machine = remembered(job.store.root / "machine.json") if job.store is not None else USUAL
        sizes, seconds = chosen(stage, cfg, row, able, cluster(mode, machine), links)
        told = torch.tensor([sizes.get(axis, 1) for axis in AXES])
        name, rate = next(iter(catalog.spec(stage.planner))), max(links.values()) / 1e9
        job.fact("mesh_planned", {"planner": name, "seconds": seconds, "link_bytes_per_second": max(links.values())})
        predicted = f"{seconds:.3g} s a step" if seconds is not None else "nothing that fits"
        job.log.say(f"mesh: {name} takes {written(sizes)} at {rate:.2g} GB/s between processes, and predicts {predicted}")
    dist.broadcast(told, 0)
    return dict(zip(AXES, told.tolist(), strict=True))

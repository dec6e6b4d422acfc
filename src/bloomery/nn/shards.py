"""FSDP2 around the blocks of a model and around the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def sharded(net: nn.Module, mesh: Any, after_forward: bool | int) -> nn.Module:
    """Cut every parameter by rows over the axis `shard`, with copies along `data`, `context` and, but for experts, `expert`; gradients are
    sums, and float32 whatever the working weights are. After the forward pass blocks are cut again (True), kept (False), or cut over so
    many neighbours alone.

    With one rank along `shard` nothing is cut, and FSDP2 makes the working weights of a type that is not the masters'.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy()
    if mesh.precision != torch.float32:
        policy = MixedPrecisionPolicy(mesh.precision, torch.float32, cast_forward_inputs=False)
    own, all_ranks = copied(mesh)
    stacks = [part.blocks for part in (getattr(net, "encoder", None), net) if part is not None]
    for block in (block for stack in stacks for block in stack if any(True for _ in block.parameters())):
        experts = [one for one in getattr(block.mlp, "experts", ()) if any(True for _ in one.parameters())]
        if own is not all_ranks and experts:
            fully_shard(experts, mesh=own, mp_policy=policy, reshard_after_forward=after_forward)
        fully_shard(block, mesh=all_ranks, mp_policy=policy, reshard_after_forward=after_forward)
    fully_shard(net, mesh=all_ranks, mp_policy=policy, reshard_after_forward=False)
    for unit in net.modules():
        if hasattr(unit, "set_gradient_divide_factor"):
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
    net.set_reduce_scatter_unused_params(True)
    return net


def copied(mesh: Any) -> tuple[Any, Any]:
    """The meshes (copies, shard) of experts and of all else, which are one where all ranks have the same experts."""
    root, axes = mesh.device_mesh, ["data", "context", "expert"]
    if mesh.sizes["shard"] == 1 or mesh.sizes["expert"] == 1:
        axes.remove("expert")
    else:  # whose ranks are copies of what is no expert: torch wants them before those that share it
        root = turned(root, (*(one for one in root.mesh_dim_names if one not in (*axes, "shard")), *axes, "shard"))
    many = [axis for axis in axes if mesh.sizes[axis] > 1 and mesh.sizes["shard"] > 1]
    made = beside(root, many, "copies")
    return (beside(root, [axis for axis in many if axis != "expert"], "twins"), made) if "expert" in many else (made, made)


def beside(root: Any, copies: Sequence[str], name: str) -> Any:
    """The mesh of `shard` and of these axes as one, where there are any."""
    if len(copies) > 1:
        root[tuple(copies)]._flatten(name)
        copies = [name]
    return root[(*copies, "shard")]


def turned(root: Any, axes: Sequence[str]) -> Any:
    """The same ranks with the axes in another order."""
    from torch.distributed.device_mesh import DeviceMesh

    order = [root.mesh_dim_names.index(axis) for axis in axes]
    return DeviceMesh(root.device_type, root.mesh.permute(order).contiguous(), mesh_dim_names=tuple(axes))


def begin(net: nn.Module, mesh: Any, last: bool, send: bool, cut: bool) -> None:
    """A micro-batch begins, whose backward pass `send`s gradients and afterwards `cut`s the weights again; the `last` of a step does."""
    net.set_requires_gradient_sync(last or send)
    net.set_requires_all_reduce(last)
    net.set_reshard_after_backward(last or cut)
    if mesh.pipe is not None:  # losses have read the head for micro-batches whose backward pass is still to come
        net.set_reshard_after_backward(last, recurse=False)

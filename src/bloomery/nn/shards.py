"""FSDP2 around the blocks of a model and around the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def sharded(net: nn.Module, mesh: Any, after_forward: bool | int) -> nn.Module:
    """Cut every parameter by rows over the axis `shard`, with copies along `data` and `context`; gradients are sums, and float32 whatever
    the working weights are. After the forward pass blocks are cut again (True), kept (False), or cut over so many neighbours alone.

    With one rank along `shard` nothing is cut, and FSDP2 makes the working weights of a type that is not the masters'.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy()
    if mesh.precision != torch.float32:
        policy = MixedPrecisionPolicy(mesh.precision, torch.float32, cast_forward_inputs=False)
    copies = [axis for axis in ("data", "context") if mesh.sizes[axis] > 1 and mesh.sizes["shard"] > 1]
    if len(copies) == 2:
        mesh.device_mesh["data", "context"]._flatten("copies")
        copies = ["copies"]
    over = mesh.device_mesh[(*copies, "shard")]
    stacks = [part.blocks for part in (getattr(net, "encoder", None), net) if part is not None]
    for block in (block for stack in stacks for block in stack if any(True for _ in block.parameters())):
        fully_shard(block, mesh=over, mp_policy=policy, reshard_after_forward=after_forward)
    fully_shard(net, mesh=over, mp_policy=policy, reshard_after_forward=False)
    for unit in net.modules():
        if hasattr(unit, "set_gradient_divide_factor"):
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
    net.set_reduce_scatter_unused_params(True)
    return net


def begin(net: nn.Module, mesh: Any, last: bool, send: bool, cut: bool) -> None:
    """A micro-batch begins, whose backward pass `send`s gradients and afterwards `cut`s the weights again; the `last` of a step does."""
    net.set_requires_gradient_sync(last or send)
    net.set_requires_all_reduce(last)
    net.set_reshard_after_backward(last or cut)
    if mesh.pipe is not None:  # losses have read the head for micro-batches whose backward pass is still to come
        net.set_reshard_after_backward(last, recurse=False)

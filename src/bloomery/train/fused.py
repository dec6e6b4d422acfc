"""Blocks as the compiler cuts them into a forward and a backward pass, for a rehearsal: what it keeps between them is its own choice.

The same partition as `torch.compile` makes (the minimal cut of Chen et al. that recomputes what is cheap), without making any kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bloomery.train.tracing import Trace


def fuse(net: nn.Module, trace: Trace) -> None:
    """Let each block run in the two passes that the compiler makes of it; what they do is counted as `trace.fused`."""
    from functorch.compile import aot_function, make_boxed_func, min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    def counted(graph: Any, _: Any) -> Any:
        def run(args: list) -> Any:
            trace.fusing += 1
            try:
                return boxed(args)
            finally:
                trace.fusing -= 1

        boxed = make_boxed_func(graph.forward)
        run._boxed_call = True
        return run

    how = {"partition_fn": min_cut_rematerialization_partition, "decompositions": select_decomp_table()}
    known: dict[Any, Any] = {}
    for number, block in enumerate(net.blocks):
        kind = (repr(block), net.cfg.window(number))
        if kind not in known:
            known[kind] = aot_function(_plain(block), fw_compiler=counted, bw_compiler=counted, **how)
        block.forward = _bound(known[kind], block)


def _plain(block: nn.Module) -> Any:
    """The block's own forward pass with any weights."""

    def forward(weights: dict[str, torch.Tensor], x: Any, ctx: Any) -> Any:
        held = block.__dict__.pop("forward", None)
        try:
            return torch.func.functional_call(block, weights, (x, ctx))
        finally:
            if held is not None:
                block.forward = held

    return forward


def _bound(passes: Any, block: nn.Module) -> Any:
    return lambda x, ctx: passes(dict(block.named_parameters()) | dict(block.named_buffers()), x, ctx)

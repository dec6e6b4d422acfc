"""Compilation of one block, shared by all layers, where it pays. A failure stops the run: its address says how it was computed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bloomery.core.errors import BadInput
from bloomery.core.log import Log
from bloomery.core.machine import compiler

if TYPE_CHECKING:
    from torch import nn

    from bloomery.seams import Loss
    from bloomery.train.batches import Feed
    from bloomery.train.mesh import Mesh

PAYS_FROM = 1e13  # training FLOPs: below this, eager is done before the compiler (measured: 12 s cold on 2 cores) has paid for itself
COLD_SECONDS = 15.0


MEND = 'say `compile: "off"` (for a step called lm: `--set lm.compile=off`)'


def worthwhile(wish: bool | str, flops: float) -> bool:
    """Whether a run of so many FLOPs is to be compiled: "on", "off", or "auto": there is a compiler and the run is long enough.

    True only where a C++ compiler is on PATH; BadInput where "on" asks for one that is not there. YAML reads on and off as booleans.
    """
    if wish in (True, "on") and compiler() is None:
        raise BadInput(f"compile: there is no C++ compiler on PATH; install one, or {MEND}")
    return wish in (True, "on") or (wish == "auto" and flops >= PAYS_FROM and compiler() is not None)


def compile_blocks(
    net: nn.Module, feed: Feed, loss: Loss, log: Log, roles: Mapping[str, nn.Module] | None = None, mesh: Mesh | None = None
) -> float:
    """Compile the blocks of `net` and what the loss does with its logits, and rehearse a forward and backward pass in the shapes of
    `feed`, to pay for it now: its seconds.

    All blocks share one graph: they have the same code and shapes, and their weights are its inputs. A failure leaves them eager and
    raises BadInput: going on would give eager numbers to an artifact whose address says that they are compiled. What brings weights to
    a block before its pass, on a `mesh` or from a disk, stays outside of the graph.
    """
    import torch

    from bloomery.nn.empty import Elsewhere
    from bloomery.num.cross_entropy import softmax_gradient

    began = time.perf_counter()
    log.say("compiling one block")
    try:
        for block in (one for one in net.blocks if not isinstance(one, Elsewhere)):
            if block._forward_pre_hooks or block._forward_hooks:
                block.forward = torch.compile(block.forward, dynamic=False, fullgraph=True)
            else:
                block.compile(dynamic=False, fullgraph=True)
        net.softmax_gradient = torch.compile(softmax_gradient, dynamic=False, fullgraph=True)
        rehearse(net, feed, loss, roles or {}, mesh)
    except Exception as wrong:
        uncompile(net)
        first = next(iter(str(wrong).strip().splitlines()), type(wrong).__name__)
        raise BadInput(f"compile: the model could not be compiled here ({first[:200]}); {MEND}") from wrong
    took = round(time.perf_counter() - began, 3)
    log.event("compiled", seconds=took)
    return took


def uncompile(net: nn.Module) -> None:
    """The model runs eagerly from here on: text of other shapes is to be read."""
    net.__dict__.pop("softmax_gradient", None)
    for block in net.blocks:
        block._compiled_call_impl = None
        block.__dict__.pop("forward", None)


def rehearse(net: nn.Module, feed: Feed, loss: Loss, roles: Mapping[str, nn.Module], mesh: Mesh | None = None) -> None:
    """One forward and backward pass over made-up tokens in the run's shapes; leaves no gradient."""
    from bloomery.train.batches import lay, stack
    from bloomery.train.device import on, where
    from bloomery.train.mesh import ALONE
    from bloomery.train.shares import shares

    row, mesh = lay([], feed.context), mesh or ALONE
    row["weights"][:] = 1
    row["documents"][:] = 0
    micro = on(stack([row] * feed.micro), where(net))
    with mesh.divided():
        value = shares(loss, {"net": net, **roles}, [micro], feed.rng.child("rehearsal"), mesh, [micro])
        if mesh.pipe is None:
            value(net, micro).backward()
        else:
            mesh.pipe.run([micro], value)
    for one in (net, *roles.values()):
        one.zero_grad(set_to_none=True)

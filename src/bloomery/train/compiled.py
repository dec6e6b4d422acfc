"""Compilation of one block, shared by all layers, where it pays; eager with one said line where it fails."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bloomery.core.log import Log
from bloomery.core.machine import compiler

if TYPE_CHECKING:
    from torch import nn

PAYS_FROM = 1e13  # training FLOPs: below this, eager is done before the compiler (measured: 12 s cold on 2 cores) has paid for itself
COLD_SECONDS = 15.0


def worthwhile(wish: str, flops: float) -> bool:
    """Whether a run of so many FLOPs is to be compiled: "on", "off", or "auto": there is a compiler and the run is long enough."""
    return wish == "on" or (wish == "auto" and flops >= PAYS_FROM and compiler() is not None)


def compile_blocks(net: nn.Module, rehearse: Callable[[], None], log: Log) -> bool:
    """Compile the blocks of `net` and run `rehearse` (a forward and backward pass in the run's shapes) to pay for it now.

    All blocks share one graph: they have the same code and shapes, and their weights are its inputs. Returns whether the blocks are
    compiled; a failure leaves them eager and is said in one line.
    """
    began = time.perf_counter()
    log.say("compiling one block")
    try:
        for block in net.blocks:
            block.compile(dynamic=False, fullgraph=True)
        rehearse()
    except Exception as wrong:  # whatever the compiler stumbles over, eager gives the same numbers
        for block in net.blocks:
            block._compiled_call_impl = None
        first = next(iter(str(wrong).strip().splitlines()), type(wrong).__name__)
        log.say(f"not compiled, training goes on eagerly: {first}")
        return False
    log.event("compiled", seconds=round(time.perf_counter() - began, 3))
    return True

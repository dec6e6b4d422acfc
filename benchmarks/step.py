"""Where the milliseconds of a compiled training step go, beside what its matrix products would take at the measured peak.

    python benchmarks/step.py [--shape 7M] [--threads 1] [--json]

Rows are the self times of torch's profiler over whole steps of bloomery's loop, as shares of a step timed without it. "floor" is
the step's products at the speed of the best bfloat16 product of 2048 x 2048: all that a step cannot do without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from train import SHAPES

from bloomery.core.log import Log
from bloomery.core.machine import threads
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng
from bloomery.train import allocator
from bloomery.train.batches import micro_rows
from bloomery.train.compiled import compile_blocks
from bloomery.train.optimizer import Optimizer
from bloomery.train.shares import shares

PARTS = (  # what is seen in the names of the profiler's rows; the first that fits
    ("matrix products", ("aten::mm", "aten::addmm")),
    ("attention: products", ("aten::bmm",)),
    ("cross-entropy without its products", ("log_softmax", "LinearCrossEntropy")),
    ("attention: exponentials and their gradient", ("amax", "cpp_fused__to_copy_div_mul_sum", "cpp_fused__to_copy_add_mul_view")),
    ("feed-forward: activation", ("silu", "sigmoid")),
    ("norms, rotation, residual sums", ("cpp_fused",)),
    ("optimizer and gradients into float32", ("adamw", "aten::copy_", "aten::add_", "foreach", "aten::mul_", "linalg")),
    ("embedding", ("embedding",)),
)


class Feed:
    """As much of a feed as compilation asks for."""

    def __init__(self, context: int, micro: int) -> None:
        self.context, self.micro, self.rng = context, micro, Rng((0, "feed"))


def loop(shape: str) -> tuple[Callable[[], None], float]:
    """One step of bloomery's loop, and the FLOPs of its products."""
    (vocab, width, layers, heads, ffn), context, rows = SHAPES[shape]
    cfg, micro = Config(vocab, width, layers, heads, heads, ffn, context), micro_rows(rows, 0, context)
    net, loss, backward, rng = Transformer(cfg).train(), CrossEntropy(), Autograd(), Rng((0,))
    ids = torch.randint(0, vocab, (rows, context + 1), generator=torch.Generator().manual_seed(0))
    order = torch.arange(context)[None].expand(rows, -1).contiguous()
    columns = (ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(order.shape), order, torch.zeros_like(order))
    micros = [Batch(*parts) for parts in zip(*(one.split(micro) for one in columns))]
    optimizer = Optimizer(net, AdamW(), rng, 0.1, torch.bfloat16)
    compile_blocks(net, Feed(context, micro), loss, Log(quiet=True))
    optimizer.stream()
    done = [0]

    def step() -> None:
        done[0] += 1
        backward.backward(net, micros, shares(loss, {"net": net}, micros, rng), rng)
        backward.transform(optimizer.collect())
        optimizer.step(1e-3, done[0])

    return step, cfg.flops_per_token(context) * rows * context


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def part_of(name: str) -> str:
    return next((part for part, words in PARTS if any(word in name for word in words)), "the rest: Python, memory, small operations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="7M", choices=list(SHAPES))
    parser.add_argument("--threads", type=int, default=threads())
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    allocator.keep_memory()
    torch.set_num_threads(given.threads)
    import torch._inductor.config as inductor

    inductor.cpp.enable_kernel_profile = True
    step, flops = loop(given.shape)
    step(), step()
    x = torch.ones(2048, 2048, dtype=torch.bfloat16)
    times, peak = [], 0.0
    for _ in range(7):
        peak = max(peak, 2 * 2048**3 / min(seconds(lambda: x @ x) for _ in range(3)))
        times.append(seconds(step))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    parts: dict[str, float] = {}
    for row in seen.key_averages():
        parts[part_of(row.key)] = parts.get(part_of(row.key), 0.0) + row.self_cpu_time_total * 1e-6
    whole, median = sum(parts.values()), statistics.median(times)
    told = {"shape": given.shape, "threads": given.threads, "step_ms": round(median * 1e3), "floor_ms": round(flops / peak * 1e3)}
    told |= {"peak": round(peak), "parts_ms": {name: round(took / whole * median * 1e3) for name, took in parts.items()}}
    if given.json:
        print(json.dumps(told))
        return
    print(f"{given.shape}, {given.threads} threads: {told['step_ms']} ms a step, floor {told['floor_ms']} at {peak / 1e9:.0f} GFLOP/s\n")
    for name, took in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"| {name} | {took / whole * median * 1e3:.0f} | {took / whole:.1%} |")


if __name__ == "__main__":
    main()

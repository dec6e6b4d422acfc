"""Seconds of the operations that a rehearsal has seen: each kind and shape is done once on real tensors of this machine, and remembered.

An operation too large to be tried is counted from rates: products by the measured speed at matrix products, others by the measured
speed of memory. In a compiled block whatever is no product is done while the operands of products are read and written, so that it
takes as long as moving these.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from bloomery.core.speeds import Speeds
from bloomery.train.tracing import Spec

VERSION = f"torch {torch.__version__}"  # another one has other kernels
PRODUCTS = ("aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm")
LARGEST_BYTES, LARGEST_FLOPS = 256e6, 2e10  # of an operation that is tried
LEAST_SECONDS, LEAST_TIMES, MOST_TIMES = 0.01, 5, 200  # for which one is repeated
SPREAD, MOST_COPIES = 24e6, 64  # bytes over which operands are spread, more than the caches of one core hold
LINKS = 500
FUSED = 1.0  # times that the operands of a product are moved for what is fused between products


def seconds(calls: Counter, speeds: Speeds, matmul_flops: Mapping[str, float], bandwidth: float) -> dict[str, float]:
    """{"products", "others", "overhead"}: seconds of all `calls`, by kind."""
    found = {
        "products": 0.0,
        "others": 0.0,
        "overhead": sum(n for (*_, fused), n in calls.items() if not fused) * speeds.of(f"{VERSION} overhead", overhead),
    }
    for (func, args, kwargs, fused), count in calls.items():
        product = str(func).startswith(PRODUCTS)
        if product or not fused:
            found["products" if product else "others"] += count * one(func, args, dict(kwargs), speeds, matmul_flops, bandwidth)
        if product and fused:
            found["others"] += count * traffic(args) * FUSED / bandwidth
    return found


def products(calls: Counter) -> float:
    """FLOPs of the matrix products among `calls`."""
    return sum(count * flops(func, args) for (func, args, _, _), count in calls.items())


def one(func: Any, args: Any, kwargs: dict[str, Any], speeds: Speeds, matmul_flops: Mapping[str, float], bandwidth: float) -> float:
    """Seconds of one operation."""
    work, moved = flops(func, args), traffic((args, kwargs))
    if work > LARGEST_FLOPS or moved > LARGEST_BYTES:
        rate = matmul_flops.get(str(first(args)[1]).removeprefix("torch."), max(matmul_flops.values()))
        return work / rate if work else moved / bandwidth
    return speeds.of(f"{VERSION} {torch.get_num_threads()} {func} {args} {sorted(kwargs.items())}", lambda: timed(func, args, kwargs))


def flops(func: Any, args: Any) -> float:
    """Two for each product of numbers."""
    if not str(func).startswith(PRODUCTS):
        return 0.0
    left, right = [one for one in args if is_spec(one)][-2:]
    return 2.0 * prod(left[2]) * right[2][-1]


def traffic(given: Any) -> float:
    """Bytes that an operation reads, about half of what it moves."""
    return 2.0 * sum(prod(one[2]) * one[1].itemsize for one in specs(given))


def timed(func: Any, args: Any, kwargs: dict[str, Any]) -> float:
    """The median of some repetitions, each on other memory than the one before, so that operands come from where they come from in a
    step: not from the innermost cache. 0 for an operation that cannot be done on made-up numbers.

    With one thread its processor time counts, which other processes do not lengthen; with several the clock does.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    copies = int(min(max(2, SPREAD // max(1.0, traffic((args, kwargs)))), MOST_COPIES))
    with torch.no_grad():
        try:
            ring = [(real(args), {name: real(value) for name, value in kwargs.items()}) for _ in range(copies)]
            made = [func(*given, **named) for given, named in ring]
        except (RuntimeError, IndexError, TypeError):
            return 0.0
        took: list[float] = []
        while len(took) < LEAST_TIMES or (sum(took) < LEAST_SECONDS and len(took) < MOST_TIMES):
            place = len(took) % copies
            given, named = ring[place]
            began = clock()
            made[place] = func(*given, **named)
            took.append(clock() - began)
    return statistics.median(took)


def overhead() -> float:
    """Seconds that autograd and the interpreter need for one operation beside its work, from a chain of the smallest ones."""

    def chain(x: torch.Tensor) -> torch.Tensor:
        for _ in range(LINKS):
            x = x * 1.5
        return x

    def taken(work: Any) -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    leaf = torch.ones(1, requires_grad=True)
    plain = torch.ones(1)
    both = min(taken(lambda: chain(leaf).backward()) for _ in range(5))
    return max(0.0, both - 2 * min(taken(lambda: chain(plain)) for _ in range(5))) / (2 * LINKS)


def real(given: Any) -> Any:
    """Arguments with tensors of the same types, shapes and strides: halves, zeros where they are whole numbers."""
    if is_spec(given):
        _, dtype, shape, stride = given
        t = torch.empty_strided(shape, stride, dtype=dtype)
        return t.fill_(0.5) if dtype.is_floating_point else t.zero_()
    return [real(one) for one in given] if isinstance(given, tuple) else given


def is_spec(one: Any) -> bool:
    return isinstance(one, tuple) and len(one) == 4 and one[0] == "t"


def specs(given: Any) -> list[Spec]:
    """All tensors among arguments."""
    if is_spec(given):
        return [given]
    if isinstance(given, dict):
        return [spec for value in given.values() for spec in specs(value)]
    return [spec for value in given for spec in specs(value)] if isinstance(given, tuple) else []


def first(args: Any) -> Spec:
    return specs(args)[0]

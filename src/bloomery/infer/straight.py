"""Compiled functions called straight.

Before each call torch.compile looks up every tensor that a function reads by its name, and asks what may have changed. For a step of one
row that takes as long as some of its layers, and more where weights have driven the interpreter out of the caches. Here a call is looked
at once for each shape, through torch.compile; from then on what the compiler made is called with the arguments of that time, but for those
that change. What the compiler would ask of the free size is not asked either: for texts of more than 4,096 tokens it would make another
graph, which adds up in pieces, for the last bits of a sum, while everyone waits for minutes.

Nothing here outlives its owner, though the compiler keeps all that it makes for as long as the process lives: what it made is taken from
its lists (`unlisted`), and when all calls are learned its caches are emptied (`Straight.settle`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Made = Callable[..., Sequence[Any]]
GRAPHS = 64  # of one function at most


@dataclass(frozen=True)
class Call:
    """What the compiler made for one shape, and its arguments: `places` of those that change, `numbers` those of their free size."""

    made: Made
    arguments: list[Any]
    places: tuple[tuple[int, int], ...]  # (place, which one)
    numbers: tuple[int, ...]

    def __call__(self, changing: Sequence[Tensor], number: int) -> Tensor:
        arguments = self.arguments.copy()
        for place, which in self.places:
            arguments[place] = changing[which]
        for place in self.numbers:
            arguments[place] = number
        return self.made(*arguments)[0]


class Straight:
    """A module of one output, compiled. Its first `steady` arguments and its own tensors are the same objects at every call; the others are
    tensors of fixed shapes, but for one size that is called `number`. `options` are the compiler's where it is torch's own."""

    def __init__(self, module: nn.Module, backend: str, steady: int, options: dict[str, Any], guards: Callable[..., list[bool]]) -> None:
        self.steady, self.module, self.caught = steady, module.eval(), Caught(backend, options)
        self.front = torch.compile(
            self.module, dynamic=False, fullgraph=True, backend=self.caught, recompile_limit=GRAPHS, isolate_recompiles=True,
            options={"guard_filter_fn": guards},
        )  # fmt: skip
        self.calls: dict[Any, Call] = {}

    def __call__(self, key: Any, number: int, *arguments: Any) -> Tensor:
        """The module's output; `key` tells apart what differs in more than the size `number`."""
        changing = arguments[self.steady :]
        if (call := self.calls.get(key)) is not None:
            return call(changing, number)
        with unlisted():
            out = self.front(*arguments)
        self.caught.take()
        return out

    def learn(self, key: Any, number: int, *arguments: Any) -> None:
        """Compiles for arguments like these where that is still to do, and remembers the call. What cannot be called so, because the
        compiler's front does more than to hand on, is left to it."""
        with unlisted():
            out = self.front(*arguments)
        if (last := self.caught.take()) is None:
            return
        made, given, found = last
        changing = arguments[self.steady :]
        places = tuple((i, which) for i, one in enumerate(given) for which, other in enumerate(changing) if one is other)
        numbers = tuple(i for i, one in enumerate(given) if isinstance(one, int))
        if len(found) == 1 and found[0] is out and all(given[i] == number for i in numbers) and len(places) == len(changing):
            self.calls[key] = Call(made, list(given), places, numbers)

    def settle(self) -> None:
        """Empties the front's caches, which would keep the graphs and their weights. What was not learned is compiled once more."""
        torch._dynamo.reset_code(type(self.module).forward.__code__)


class Caught:
    """What torch.compile hands a graph to. It keeps the newest call until that is taken, and else nothing: torch keeps it for ever."""

    def __init__(self, backend: str, options: dict[str, Any]) -> None:
        self.backend, self.options = backend, options
        self.last: tuple[Made, tuple[Any, ...], Sequence[Any]] | None = None

    def __call__(self, graph: torch.fx.GraphModule, examples: list[Any]) -> Made:
        extra = {"config_patches": self.options} if self.options else {}
        made = torch._dynamo.lookup_backend(self.backend)(graph, examples, **extra)

        def run(*arguments: Any) -> Sequence[Any]:
            out = made(*arguments)
            self.last = made, arguments, out
            return out

        return run

    def take(self) -> tuple[Made, tuple[Any, ...], Sequence[Any]] | None:
        """What the compiler made for the newest call, the arguments it had, and what came out."""
        last, self.last = self.last, None
        return last


@contextmanager
def unlisted() -> Iterator[None]:
    """Modules of constants that the compiler makes meanwhile belong to whoever calls their functions."""
    from torch._inductor.codecache import PyCodeCache as listed  # here alone: it takes as long to import as all of torch

    before = set(map(id, listed.modules))
    yield
    shared = set(map(id, listed.modules_no_attr.values()))
    for one in [one for one in listed.modules if id(one) not in before | shared]:
        listed.modules.remove(one)
        sys.modules.pop(one.__name__, None)

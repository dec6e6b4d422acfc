"""Compiled functions called straight.

Before each call torch.compile looks up every tensor that a function reads by its name, and asks what may have changed. For a step of one
row that takes as long as some of its layers, and more where weights have driven the interpreter out of the caches. Here a call is looked
at once for each shape, through torch.compile; from then on what the compiler made is called with the arguments of that time, but for those
that change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend

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
        self.steady, self.options, self.backend = steady, options, backend
        self.front = torch.compile(
            module.eval(), dynamic=False, fullgraph=True, backend=self._compile, recompile_limit=GRAPHS, isolate_recompiles=True,
            options={"guard_filter_fn": guards},
        )  # fmt: skip
        self.calls: dict[Any, Call] = {}
        self._last: tuple[Made, tuple[Any, ...], Sequence[Any]] | None = None

    def _compile(self, graph: torch.fx.GraphModule, examples: list[Any]) -> Made:
        extra = {"config_patches": self.options} if self.options else {}
        made = lookup_backend(self.backend)(graph, examples, **extra)

        def run(*arguments: Any) -> Sequence[Any]:
            out = made(*arguments)
            self._last = made, arguments, out
            return out

        return run

    def __call__(self, key: Any, number: int, *arguments: Any) -> Tensor:
        """The module's output; `key` tells apart what differs in more than the size `number`."""
        changing = arguments[self.steady :]
        if (call := self.calls.get(key)) is not None:
            return call(changing, number)
        return self.front(*arguments)

    def learn(self, key: Any, number: int, *arguments: Any) -> None:
        """Compiles for arguments like these where that is still to do, and remembers the call. What cannot be called so, because the
        compiler's front does more than to hand on, is left to it."""
        out = self.front(*arguments)
        if self._last is None:
            return
        made, given, found = self._last
        self._last = None
        changing = arguments[self.steady :]
        places = tuple((i, which) for i, one in enumerate(given) for which, other in enumerate(changing) if one is other)
        numbers = tuple(i for i, one in enumerate(given) if isinstance(one, int))
        if len(found) == 1 and found[0] is out and all(given[i] == number for i in numbers) and len(places) == len(changing):
            self.calls[key] = Call(made, list(given), places, numbers)

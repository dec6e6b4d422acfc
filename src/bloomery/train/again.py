"""Sites that are computed twice: the first pass keeps their inputs alone, the backward pass makes the rest anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Frame:
    """One pass through a site. `fixed(t)` tells parameters, which are kept as they are; `count(t)` holds a share in what is kept now,
    `plain(t)` in what would have been.

    Tensors are numbered in the order in which operations keep them, which is the same both times.
    """

    def __init__(
        self, forward: Callable[..., Any], given: Sequence[Any], named: dict[str, Any], fixed: Any, count: Any, plain: Any
    ) -> None:
        self.forward, self.given, self.named = forward, given, named
        self.fixed, self.count, self.plain = fixed, count, plain
        self.held = [share(t) for t in given if isinstance(t, Tensor) for share in (count, plain)]
        self.numbers, self.values = 0, {}

    def __call__(self) -> Any:
        """The site's output, with a graph that comes back here for what it needs."""
        with torch.autograd.graph.saved_tensors_hooks(self.pack, self.unpack):
            return self.forward(*self.given, **self.named)

    def pack(self, t: Tensor) -> Any:
        if self.fixed(t):
            return t, t._version
        self.numbers += 1
        return Later(self, self.numbers - 1, self.plain(t))

    def unpack(self, kept: Any) -> Tensor:
        """RuntimeError where a parameter has been changed since, as autograd itself would say."""
        if not isinstance(kept, Later):
            if kept[0]._version != kept[1]:
                raise RuntimeError("a tensor that the backward pass needs was changed in place after it had been kept")
            return kept[0]
        if kept.number not in self.values:
            self.compute()
        return self.values.pop(kept.number)[0]

    def compute(self) -> None:
        """The same operations on the same numbers, for what they keep."""
        found: list[Tensor] = []

        def keep(t: Tensor) -> Any:
            if not self.fixed(t):
                found.append(t.detach())
            return ()

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
            self.forward(*self.given, **self.named)
        if len(found) != self.numbers:
            raise RuntimeError(f"a site kept {self.numbers} tensors and {len(found)} when it was computed again: it is not the same twice")
        self.values = {number: (t, self.count(t)) for number, t in enumerate(found)}


class Later:
    """What autograd holds in place of a tensor."""

    def __init__(self, frame: Frame, number: int, share: Any) -> None:
        self.frame, self.number, self.share = frame, number, share

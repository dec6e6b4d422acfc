"""Blocks whose weights come from a disk when they are needed, and leave when others are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from bloomery.train.optimizer import Claim

Range = tuple[str, int, int]  # what lies on a shelf under a name: its numbers from the first to before the last


class Window:
    """At most `resident` of `blocks` have pages of their weights in memory, and `together` of them leave at a time.

    `lies` says for every block where its weights lie on `shelf`. Nothing is copied: numbers are those of the files, and what is not in
    memory comes when it is touched, so that a block which nobody announced is computed as well.
    """

    def __init__(self, blocks: Sequence[nn.Module], lies: Sequence[Sequence[Range]], shelf: Any, resident: int, together: int) -> None:
        self.lies, self.shelf, self.resident, self.together = lies, shelf, resident, together
        self.held: list[int] = []  # the one that was not used for longest first
        self.most = self.reads = self.last = 0  # blocks that were ever held at once; blocks that came; the newest
        for number, block in enumerate(blocks):
            block.register_forward_pre_hook(lambda _, __, number=number: self.enter(number))
            block.register_forward_hook(lambda _, __, made, number=number: self.watch(made, number))

    def watch(self, made: Tensor, number: int) -> None:
        """A block's backward pass begins where the gradient of what it made is known."""
        if made.requires_grad:
            made.register_hook(lambda _: self.enter(number))

    def enter(self, number: int) -> None:
        """A block is about to be computed."""
        step = 1 if number >= self.last else -1
        self.last = number
        if number in self.held:
            self.held.remove(number)
        else:
            if len(self.held) == self.resident:
                self.leave(self.held[: self.together])
            self.reads += 1
            ahead = range(number, number + step * self.together, step)
            for range_ in (one for block in ahead if 0 <= block < len(self.lies) for one in self.lies[block]):
                self.shelf.read_ahead(*range_)
        self.held.append(number)
        self.most = max(self.most, len(self.held))

    def leave(self, numbers: Sequence[int]) -> None:
        """Blocks whose memory others need."""
        for range_ in (one for number in numbers for one in self.lies[number]):
            self.shelf.drop(*range_)
        self.held = [one for one in self.held if one not in numbers]

    def empty(self) -> None:
        """All leave: an update has touched them."""
        self.leave(list(self.held))


def ranges(claims: Sequence[Claim], still: Mapping[str, Tensor], blocks: int, name: str) -> list[list[Range]]:
    """Of every block the runs of numbers of `name`, a flat buffer that holds trained parameters, and its parameters that are not trained,
    each under its own name."""
    found: list[list[Range]] = [[(key, 0, t.numel()) for key, t in still.items() if layer(key) == i] for i in range(blocks)]
    for number, run in groupby(sorted(claims, key=lambda one: one.start), key=lambda one: layer(one.name)):
        if number is not None:
            run = list(run)
            found[number].append((name, run[0].start, run[-1].stop))
    return found


def layer(name: str) -> int | None:
    """The block of a parameter, None outside of the blocks."""
    first, _, rest = name.partition(".")
    return int(rest.partition(".")[0]) if first == "blocks" else None
